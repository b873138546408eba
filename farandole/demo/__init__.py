"""The demo: orders against a whole system, among them everything that can go wrong, and then the audit.

flows     which demo shows which flow
plan      every order, what is wrong with it, how it may end           from a seed
mischief  what goes wrong outside, in the topics, to the workers       from the same seed
runs      a directory and a namespace for each run
stage     a system of the demo's own (farandole.system), or one that runs already
place     the customers, over HTTP and Kafka
watch     what is seen of the orders, from outside
run       one demo from beginning to end
report    the figures, the table, the verdict
further   commands to go on looking

transfers, transfer_plan, transfer_customers, transfer_report: the same of money between bank accounts
login, visitors: the same of logins
"""

from farandole.system import System

__all__ = ["System"]
