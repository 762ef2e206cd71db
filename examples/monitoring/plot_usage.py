#!/usr/bin/env python3
"""Draws usage by day and model as stacked bars.

    psql --csv -f QUERY | examples/monitoring/plot_usage.py [TITLE] > usage.svg

Reads rows of day, model and tokens as CSV with a header, sorted by day.
"""
import csv
import sys
from collections import defaultdict
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 360, 64, 170, 44, 40
COLORS = ['#4269d0', '#efb118', '#3ca951', '#ff725c', '#a463f2', '#97bbf5', '#9c6b4e']
OTHERS = '#b0b0b0'


def read_usage(lines):
    """Returns {day: {model: tokens}}, and the models, the one with most tokens first."""
    usage, totals = defaultdict(dict), defaultdict(int)
    for row in csv.DictReader(lines):
        usage[row['day']][row['model']] = int(row['tokens'])
        totals[row['model']] += int(row['tokens'])
    return usage, sorted(totals, key=lambda model: (-totals[model], model))


def step_of(maximum):
    """Returns a round distance of the lines, with which at most five of them are needed."""
    step = 1
    while maximum / step > 5:
        step = step * 2 if str(step)[0] in '15' else step * 5 // 2
    return step


def label_of(tokens):
    for unit, letter in ((10**9, 'G'), (10**6, 'M'), (10**3, 'k')):
        if tokens >= unit:
            return f'{tokens / unit:g}{letter}'
    return str(tokens)


def draw(usage, models, title):
    colors = {model: COLORS[i] if i < len(COLORS) else OTHERS for i, model in enumerate(models)}
    step = step_of(max((sum(day.values()) for day in usage.values()), default=1))
    top = step * -(-max((sum(day.values()) for day in usage.values()), default=1) // step)
    height, width = HEIGHT - TOP - BOTTOM, WIDTH - LEFT - RIGHT
    y_of = lambda tokens: TOP + height * (1 - tokens / top)
    slot = width / max(len(usage), 1)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
           f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">')
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>'
    for tokens in range(0, top + 1, step):
        y = y_of(tokens)
        yield f'<line x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label_of(tokens)}</text>'
    for i, (day, by_model) in enumerate(usage.items()):
        below = 0
        for model in (model for model in models if by_model.get(model, 0) > 0):
            y, tokens = y_of(below + by_model[model]), by_model[model]
            yield (f'<rect x="{LEFT + slot * (i + 0.1):.1f}" y="{y:.1f}" width="{slot * 0.8:.1f}" '
                   f'height="{y_of(below) - y:.1f}" fill="{colors[model]}">'
                   f'<title>{escape(f"{day} {model}: {tokens:,}")}</title></rect>')
            below += tokens
        if i % -(-len(usage) // 10) == 0:
            yield f'<text x="{LEFT + slot * (i + 0.5):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{escape(day[5:])}</text>'
    for i, model in enumerate(models[:len(COLORS) + 1]):
        y = TOP + 10 + 20 * i
        yield f'<rect x="{WIDTH - RIGHT + 16}" y="{y - 10}" width="12" height="12" fill="{colors[model]}"/>'
        yield f'<text x="{WIDTH - RIGHT + 34}" y="{y}">{escape(model if i < len(COLORS) else "others")}</text>'
    yield '</svg>'


if __name__ == '__main__':
    print('\n'.join(draw(*read_usage(sys.stdin), sys.argv[1] if len(sys.argv) > 1 else 'Tokens by day and model')))
