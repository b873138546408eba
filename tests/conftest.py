"""What every test may ask for is in farandole.pytest_plugin: `kafka`, `kafka_cluster`, `namespace`."""

import signal

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: tests that send it to a
# command would find it deaf.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
