"""`farandole chaos`: the real system under load, broken on purpose, and audited at the end.

fault     what a kind of fault is; faults/ has ours, one file each
stage     what a fault may touch                        picking         what the system can spare
world     all parts of a run, who has broken what       options         what may be chosen
brokers   three brokers, killed and brought back        network, proxy  cuts between workers and brokers
quorum    who coordinates what                          monitor         when partitions moved again
load      orders in an open loop                        outside         the sandbox's faults, on top of one another
schedule  which faults, when, from a seed               injecting       one fault from beginning to end
ordering  the order of every saga's effects             report          figures, table, verdict
run       one run from beginning to end
"""

from farandole.chaos.fault import Fault, Refused
from farandole.chaos.stage import Stage

__all__ = ["Fault", "Refused", "Stage"]
"""What a plug-in needs."""
