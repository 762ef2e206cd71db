"""Other designs as contenders, in tables of their own (peers.sql), and what they do not guarantee."""

import collections
import os
import re

# {account}, {tokens}, {key}: filled in by the workload. counters, events: the tokens in the store. fold: what a background
# session runs every interval_s until the turn ends, and then until it returns 0. sources: files of the project itself, in a
# directory of checkouts; of a file with "#table", the statements of that table. create: what its user would run after them.
Peer = collections.namedtuple("Peer", "call counters events lacks fold interval_s sources create", defaults=(None, None, (), ""))


def function_call(name):
    return f"SELECT {name}({{account}}, {{tokens}}, {{key}});"


def sql_of_sources(peer, directory):
    """The unmodified SQL of a project, from its checkout."""
    texts = []
    for source in peer.sources:
        path, _, table = source.partition("#")
        with open(os.path.join(directory, path)) as file:
            text = file.read()
        if table:
            name = re.escape(table)
            text = "\n".join(match[0] for match in re.finditer(
                rf"^(CREATE TABLE {name} |ALTER TABLE ONLY {name}\s|CREATE (UNIQUE )?INDEX \w+ ON {name} )[^;]*;", text, re.MULTILINE))
        texts.append(text)
    return "\n".join([*texts, peer.create])


DOUBLE_ENTRY_LACKS = "a retry is counted again; every call locks the one account on the other side; no periods"
EVENTS_LACK = "no counter: usage is added up when it is read; the answer does not say how much is used"
QUEUE_LACKS = "the counter lags by the queue, which may grow; the answer says neither usage nor whether it was a retry"
PEERS = {
    "pgledger-like": Peer(
        function_call("double_entry_count"),
        "SELECT sum(balance) FROM double_entry_accounts WHERE id = md5('revenue')::uuid", "SELECT sum(amount) FROM double_entry_transfers",
        DOUBLE_ENTRY_LACKS),
    "pgledger": Peer(
        "SELECT id FROM pgledger_create_transfer({account}::text, 'revenue', {tokens}, metadata => jsonb_build_object('key', {key}));",
        "SELECT sum(balance) FROM pgledger_accounts WHERE id = 'revenue'", "SELECT sum(amount) FROM pgledger_transfers",
        DOUBLE_ENTRY_LACKS, sources=("pgledger/vendor/scoville-pgsql-ulid/uuid-to-ulid.sql", "pgledger/pgledger.sql"),
        create="""INSERT INTO pgledger_accounts
                  SELECT id, id, 'tokens', 0, 0, true, true, NULL, now(), now()
                    FROM (SELECT account_id::text AS id FROM usage_accounts UNION ALL SELECT 'revenue') AS account"""),
    "LiteLLM-like": Peer(
        function_call("spend_count"), "SELECT sum(spend)::bigint FROM spend_keys", "SELECT sum(tokens) FROM spend_log",
        "a retry is counted again, though its log row is not repeated; floating point; no periods"),
    "Formance-like": Peer(
        function_call("volume_count"), "SELECT sum(input) FROM volumes", "SELECT sum(amount) FROM volume_moves WHERE NOT is_source",
        "every call locks the row of world; of two concurrent retries one gets an error; no periods"),
    "Lago-like": Peer(
        """INSERT INTO billing_events (organization_id, subscription_id, transaction_id, code, properties)
           VALUES (md5('organization')::uuid, {account}::text, {key}, 'tokens', jsonb_build_object('tokens', {tokens})) ON CONFLICT DO NOTHING;""",
        None, "SELECT sum((properties ->> 'tokens')::bigint) FROM billing_events", EVENTS_LACK),
    "Lago": Peer(
        """INSERT INTO public.events (organization_id, external_subscription_id, transaction_id, code, properties, "timestamp", created_at, updated_at)
           VALUES (md5('organization')::uuid, {account}::text, {key}, 'tokens', jsonb_build_object('tokens', {tokens}), now(), now(), now())
           ON CONFLICT DO NOTHING;""",
        None, "SELECT sum((properties ->> 'tokens')::bigint) FROM public.events", EVENTS_LACK, sources=("lago-api/db/structure.sql#public.events",)),
    "pgmq-like": Peer(
        "INSERT INTO queue (message) VALUES (jsonb_build_object('account', {account}, 'tokens', {tokens}, 'key', {key}));",
        "SELECT sum(tokens) FROM queue_counters", "SELECT sum(tokens) FROM queue_events", QUEUE_LACKS, "SELECT queue_consume()", 0.01),
    "pgmq": Peer(
        "SELECT pgmq.send('usage', jsonb_build_object('account', {account}, 'tokens', {tokens}, 'key', {key}));",
        "SELECT sum(tokens) FROM pgmq_counters", "SELECT sum(tokens) FROM pgmq_events", QUEUE_LACKS, "SELECT pgmq_consume()", 0.01,
        sources=("pgmq/pgmq-extension/sql/pgmq.sql",),
        create="""SELECT pgmq.create('usage');
                  CREATE TABLE pgmq_events (LIKE queue_events INCLUDING ALL);
                  CREATE TABLE pgmq_counters (LIKE queue_counters INCLUDING ALL);
                  INSERT INTO pgmq_counters SELECT account_id FROM usage_accounts;
                  CREATE FUNCTION pgmq_consume() RETURNS bigint LANGUAGE plpgsql AS $$
                  DECLARE
                      v_taken bigint[];
                  BEGIN
                      WITH taken AS (SELECT msg_id, message FROM pgmq.read('usage', 30, 10000)),
                      event AS (
                          INSERT INTO pgmq_events SELECT (message ->> 'account')::uuid, message ->> 'key', (message ->> 'tokens')::bigint FROM taken
                          ON CONFLICT DO NOTHING RETURNING account_id, tokens),
                      added AS (
                          UPDATE pgmq_counters AS c SET tokens = c.tokens + e.tokens
                            FROM (SELECT account_id, sum(tokens) AS tokens FROM event GROUP BY 1) AS e WHERE e.account_id = c.account_id)
                      SELECT array_agg(msg_id) INTO v_taken FROM taken;
                      PERFORM pgmq.delete('usage', v_taken);
                      RETURN (SELECT count(*) FROM (SELECT FROM pgmq.q_usage LIMIT 1) AS rest);
                  END $$"""),
    "roll-up": Peer(
        "INSERT INTO rolled_events (account_id, key, tokens) VALUES ({account}, {key}, {tokens}) ON CONFLICT DO NOTHING;",
        "SELECT sum(tokens) FROM rolled_counters", "SELECT sum(tokens) FROM rolled_events",
        "the counter lags by a second, and by the longest transaction in the server; the answer does not say how much is used",
        "SELECT roll_up()", 1),
    "bare insert": Peer(
        "INSERT INTO bare_events VALUES ({account}, {key}, {tokens}) ON CONFLICT DO NOTHING;",
        None, "SELECT sum(tokens) FROM bare_events", "no counter"),
}
