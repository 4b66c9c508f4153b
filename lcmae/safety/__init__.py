"""What stands between a file from elsewhere and its reader: strings, bytes, zips and pickles. No
torch.

- `text`: `printable`, for every string that reaches a person.
- `files`: `read_regular`, for every small file of a run folder.
- `torch_zip`: whether a zip is one that torch.save writes, member by member.
- `pickle_machine`: what a pickle would do, found out without doing it; `pickle_calls`: the rule for
  each call that it may ask for; `extras`: classes whose objects are left aside.

docs/security.md says what is trusted, what is not, and what is tested.
"""
