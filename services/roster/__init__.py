"""roster — who answers.

The cast: `domain` holds partners, offices, people, policies and the rules that they obey; `schedule` computes who is on
call when; `publication` turns a partner's state into the events that the other services work from. `network` reads the
network file with the help of `toml_file`, and `seeding` says what applying it would do; `addresses` says which webhooks
may be given. `changes` says what differs between two states, `merging` writes a file's items over one, `views` and
`bodies` are what HTTP shows and is sent. All of these are pure; `store`, `handlers`, `plans`, `api` (with `api_owned`
for what a partner owns) and `app` act on what they say, and `worker` computes what takes long in a process of its own.

`readiness` proves that the coming days will hold and tells what keeps them from it; `shift_notices` says whom to tell
before a shift begins, with rows in `shift_notice_store` and a loop in `shift_notifying`.

The promise: each partner's data belongs to that partner, and a duty plan for the coming 14 days is always with
escalation, so that paging goes on while this service is down.
"""
