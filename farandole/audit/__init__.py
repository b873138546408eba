"""`farandole audit`: reads every topic as an outsider would, and says whether every promise held.

It shares no state and no code with the services: it knows the events (events.py, schemas/), the topics (topics.yaml),
and the promises (flows/). A bug in an agent or in the engine is no bug here.

    reading     Kafka: assigned by hand, read-committed, up to the ends at the moment of asking
    fold        each record to where it counts:
      chain       ids and causes
      services    parked sagas, dead letters, waiting calls, journals
      books       stock by sku, money by account
      bank        the accounts' ledger
      flows       one file per flow: what its sagas went through, and what is wrong with one
    judging     from all that to findings, and what is left of them when one looks again
    rounds      the audit from beginning to end
    report      the result

    report = audit.run(settled=True)
    report.ok, report.findings, report.to_dict()
"""

from farandole.audit.findings import CHECKS, Finding
from farandole.audit.report import Report
from farandole.audit.rounds import OPEN_FOR, run

__all__ = ["CHECKS", "OPEN_FOR", "Finding", "Report", "run"]
