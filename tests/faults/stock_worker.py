"""A worker with Faust's own acknowledgement put back, to see that the checker notices."""

import sys

from streams.__main__ import main
from tests.streams.runtime.stock import StockConsumer

if __name__ == "__main__":
    main(sys.argv[1:], consumer=StockConsumer)
