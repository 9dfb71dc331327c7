"""roster — who answers.

The cast: `domain` holds partners, offices, people, policies and the rules that they obey; `schedule` computes who is on
call when; `publication` turns a partner's state into the events that the other services work from. `network` reads the
network file with the help of `toml_file`, and `seeding` says what applying it would do. All of these are pure; `store`,
`handlers`, `api` and `app` act on what they say.

The promise: each partner's data belongs to that partner, and a duty plan for the coming 14 days is always with
escalation, so that paging goes on while this service is down.
"""
