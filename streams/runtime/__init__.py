"""At-least-once delivery on Faust's consume and rebalance shell: ledger, lanes, retries, dead letters, publishing."""
