"""One saga's whole story: who did what, when and why, over all topics, in the order of cause and effect.

reading   its records: only the partitions where its keys can lie
tree      events below their causes, with the calls, timers and dead letters that belong to them
telling   lines for people, objects for scripts; where it is stuck, and what one can do
"""
