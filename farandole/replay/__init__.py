"""`farandole replay`: recorded history read again, by itself: nothing committed, no live group joined.

selection   which part of history: topics, time, offsets, saga, flow
inspecting  *inspect*: records as JSON lines
history     what was read, where it can be looked up
replica     a service as it is in this checkout, without Kafka
player      one partition of a service, played journal line by journal line
rebuilding  *rebuild*: tables from history, compared with the live ones
snapshot    tables at a position of the journal, in a file
"""
