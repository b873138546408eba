"""`farandole replay`: recorded history read again, by itself: nothing committed, no live group joined.

opening     the project, and a reader of the topics; runs: its quick way to read; pace: at a rate
selection   which part of history: topics, time, offsets, saga, flow
inspecting  *inspect*: records as JSON lines; plain: a record as JSON
history     what was read, where it can be looked up; moments: when work may be stopped, and noted
replica     a service as it is in this checkout, without Kafka
player      one partition of a service, played journal line by journal line; letters: what was put aside then
rebuilding  *rebuild*: tables from history, compared with the live ones; report: in words
applying    and put in their place
snapshot    tables at a position of the journal, in a file
shadowing   *shadow*: today's services over what was recorded
  recorded  what of it is read, and in which order
  resuming  a directory from which it goes on; readstate, playstate: how far it is; rules: with which it was played
  world     all of them together: what each line did is done again
  chain     one partition of one service, and how far it is
  track     one partition of a topic: what was recorded, and what there is of it this time
  origins   who published a record
  differing what differs, saga by saga; shadow_report: in words
"""
