"""From a record or a request to the last event at the client, over a whole running stack."""
