#!/usr/bin/env python3
"""Runs the SQL of examples/monitoring as the roles that it is for.

    scripts/with_cluster.sh test/tools/monitoring.py

Every query must return its columns, and the metrics that alerts and dashboards name must be
those of the exporter. If postgres_exporter and promtool are installed, they check the files too.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
EXAMPLES = os.path.join(TREE, 'examples', 'monitoring')
ACCOUNT = '7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'
QUERIES = os.path.join(EXAMPLES, 'postgres_exporter.yaml')


def snippet(document, heading):
    return subprocess.check_output(['test/tools/snippets.sh', document, heading], cwd=TREE, text=True)


def psql(sql, role='postgres'):
    return subprocess.run(['psql', '-X', '-q', '--csv', '-v', 'ON_ERROR_STOP=1', '-U', role, '-c', sql],
                          check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def set_up():
    for role in ('worker', 'biller', 'dba', 'monitor'):
        psql(f'CREATE ROLE {role} LOGIN')
    psql(snippet('docs/quick_start.md', 'Installation'))
    psql(snippet('README.md', 'Grants'))
    psql(f"SELECT billing.record_usage('{ACCOUNT}', 'k', 'm', 'team/user', 700, 0, 0, 80)")
    psql(f"SELECT billing.set_usage_limit('{ACCOUNT}', 1000)")
    psql(f"SELECT billing.open_usage_period('{ACCOUNT}', '2020-01-01Z', '2020-02-01Z')")
    psql("SET usage_ledger.settlement = 'deferred'; "
         f"SELECT billing.increment_usage('{ACCOUNT}', 5, 'pending')")


def exporter_queries():
    """Returns {key: (query, columns)}. This is the part of YAML that the file uses."""
    queries = {}
    for block in re.split(r'^(?=\w+:$)', open(QUERIES).read(), flags=re.M)[1:]:
        query = re.search(r'  query: \|\n((?:    .*\n)+)', block)[1]
        columns = re.findall(r'^    - (\w+): \{usage: (\w+)', block, flags=re.M)
        queries[block.split(':')[0]] = (query, dict(columns))
    return queries


def run_queries(queries):
    metrics = set()
    for key, (query, columns) in queries.items():
        header = psql(query, 'monitor')[0].split(',')
        assert header == list(columns), (key, header, list(columns))
        metrics |= {f'{key}_{column}' for column, usage in columns.items() if usage != 'LABEL'}
    values = psql(queries['usage_ledger_check'][0], 'monitor')[1]
    assert values == '0,1', values
    assert psql(queries['usage_ledger_queue'][0], 'monitor')[1].startswith('1,')
    return metrics


def targets(board):
    """Yields the queries of a dashboard: (language, text, rows expected)."""
    for variable in board['templating']['list']:
        if variable['type'] == 'query':
            yield 'sql', variable['query'], True
    for panel in board['panels']:
        for target in panel['targets']:
            if 'rawSql' in target:
                yield 'sql', target['rawSql'], 'worker' not in target['rawSql']
            else:
                yield 'promql', target['expr'], None


def check_dashboards(metrics):
    for name, role in (('grafana_operation.json', 'monitor'), ('grafana_usage.json', 'biller')):
        for language, text, has_rows in targets(json.load(open(os.path.join(EXAMPLES, name)))):
            if language == 'promql':
                assert set(re.findall(r'usage_ledger_\w+', text)) <= metrics, text
            else:
                rows = psql(text.replace('${account}', ACCOUNT), role)
                assert not has_rows or len(rows) > 1, (name, text)


def check_alerts(metrics):
    alerts = os.path.join(EXAMPLES, 'alerts.yaml')
    used = set(re.findall(r'^ +expr: .*?(usage_ledger_\w+)', open(alerts).read(), flags=re.M))
    assert used and used <= metrics, used - metrics
    if shutil.which('promtool'):
        subprocess.run(['promtool', 'check', 'rules', alerts], check=True)


def check_exporter(metrics):
    exporter = shutil.which('prometheus-postgres-exporter') or shutil.which('postgres_exporter')
    if exporter is None:
        print('postgres_exporter is not installed: not scraped')
        return
    url = f"host={os.environ['PGHOST']} user=monitor dbname={os.environ['PGDATABASE']} sslmode=disable"
    process = subprocess.Popen([exporter, f'--extend.query-path={QUERIES}', '--disable-default-metrics',
                                '--disable-settings-metrics', '--web.listen-address=127.0.0.1:19187'],
                               env={**os.environ, 'DATA_SOURCE_NAME': url}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                page = urllib.request.urlopen('http://127.0.0.1:19187/metrics').read().decode()
                break
            except OSError:
                time.sleep(0.1)
        scraped = set(re.findall(r'^(usage_ledger_\w+?)\{', page, flags=re.M))
    finally:
        process.terminate()
        process.wait()
    # Without a worker its metrics have no rows.
    missing = {metric for metric in metrics - scraped if not metric.startswith('usage_ledger_worker')}
    assert not missing, missing
    print(f'postgres_exporter: {len(scraped)} metrics')


def main():
    set_up()
    metrics = run_queries(exporter_queries())
    check_dashboards(metrics)
    check_alerts(metrics)
    check_exporter(metrics)
    print(f'{len(metrics)} metrics')


if __name__ == '__main__':
    sys.exit(main())
