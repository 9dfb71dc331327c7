"""Calendars: what a ministry's own calendar says of a rota, and the rota as a calendar.

The cast: `reading` makes events of iCalendar text, with `lines`, `zones` and `times`; `mapping` makes shifts of events;
`writing` makes iCalendar text of shifts. `model` holds their shapes and limits. All of these are pure, and `fetching`,
`handlers`, `store`, `views`, `bodies` and `api` act on what they say.

The promise: what a calendar says about a contact is on duty exactly as it says; what cannot be read or mapped is told
and never guessed; and a calendar that fails, or is empty all of a sudden, keeps the shifts that it last said.
"""
