"""What raiser and partner say to each other beside the answer: questions back, and read-backs.

The cast: `handlers` is what API and command line ask, `api` their HTTP face; `questions` and `read_backs` hold the
rules, `store` the rows.
"""
