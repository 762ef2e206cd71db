"""Other designs as contenders, in tables of their own (peers.sql), and what they do not guarantee."""

import collections

# {account}, {tokens}, {key}: filled in by the workload. counters, events: the tokens in the store. fold: what a background
# session runs every interval_s until the turn ends, and then until it returns 0.
Peer = collections.namedtuple("Peer", "call counters events lacks fold interval_s", defaults=(None, None))


def function_call(name):
    return f"SELECT {name}({{account}}, {{tokens}}, {{key}});"


PEERS = {
    "pgledger-like": Peer(
        function_call("double_entry_count"),
        "SELECT sum(balance) FROM double_entry_accounts WHERE id = md5('revenue')::uuid", "SELECT sum(amount) FROM double_entry_transfers",
        "a retry is counted again; every call locks the one account on the other side; no periods"),
    "LiteLLM-like": Peer(
        function_call("spend_count"), "SELECT sum(spend)::bigint FROM spend_keys", "SELECT sum(tokens) FROM spend_log",
        "a retry is counted again, though its log row is not repeated; floating point; no periods"),
    "Formance-like": Peer(
        function_call("volume_count"), "SELECT sum(input) FROM volumes", "SELECT sum(amount) FROM volume_moves WHERE NOT is_source",
        "every call locks the row of world; of two concurrent retries one gets an error; no periods"),
    "Lago-like": Peer(
        """INSERT INTO billing_events (organization_id, subscription_id, transaction_id, code, properties)
           VALUES (md5('organization')::uuid, {account}::text, {key}, 'tokens', jsonb_build_object('tokens', {tokens})) ON CONFLICT DO NOTHING;""",
        None, "SELECT sum((properties ->> 'tokens')::bigint) FROM billing_events",
        "no counter: usage is added up when it is read; the answer does not say how much is used"),
    "pgmq-like": Peer(
        "INSERT INTO queue (message) VALUES (jsonb_build_object('account', {account}, 'tokens', {tokens}, 'key', {key}));",
        "SELECT sum(tokens) FROM queue_counters", "SELECT sum(tokens) FROM queue_events",
        "the counter lags by the queue, which may grow; the answer says neither usage nor whether it was a retry",
        "SELECT queue_consume()", 0.01),
    "roll-up": Peer(
        "INSERT INTO rolled_events (account_id, key, tokens) VALUES ({account}, {key}, {tokens}) ON CONFLICT DO NOTHING;",
        "SELECT sum(tokens) FROM rolled_counters", "SELECT sum(tokens) FROM rolled_events",
        "the counter lags by a second, and by the longest transaction in the server; the answer does not say how much is used",
        "SELECT roll_up()", 1),
    "bare insert": Peer(
        "INSERT INTO bare_events VALUES ({account}, {key}, {tokens}) ON CONFLICT DO NOTHING;",
        None, "SELECT sum(tokens) FROM bare_events", "no counter"),
}
