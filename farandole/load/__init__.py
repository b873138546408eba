"""`farandole load`: orders in an open loop, and what became of them and of the machine.

histogram   times, log-linear
objective   what is to be held: p99<1000ms
stages      when orders are due
profile     stages from a file
orders      which orders: kinds, lines, skus
options     all that may be chosen, and what does not fit together
recorder    every order from when it was meant to be placed to its end, and the figures by second and by stage
sending     places them when they are due, over Kafka
http        the same over HTTP
endings     sees their ends, as an outsider
sampler     lag, CPU and memory meanwhile
limit       the search for the highest rate
run         one load from beginning to end
figures     from the recorder and the sampler to one JSON object
plots, html the report for people
compare     two reports side by side
"""
