"""Figure 3 as the authors animate it: each block's ratio at one epoch, and a slider through the epochs.

The drawing is a piece of HTML that needs nothing from outside: its data, an SVG, and a script of some lines.  So it
works on a static page, offline, in a notebook as in the book.
"""

from __future__ import annotations

import hashlib
import json
import math
from html import escape
from typing import Any

import matplotlib as mpl
import pandas as pd

from paperlib.figures._style import ARCHITECTURES
from paperlib.figures.section4._common import LIMIT, TITLES, name, of

# The page's script: builds one panel per architecture, and moves the points when the epoch or the depth changes.
SCRIPT = """
(function () {
  const root = document.getElementById(ID), data = DATA;
  const [svg, depth, epoch, play, text] =
    ["svg", "select", "input", "button", "output"].map(tag => root.querySelector(tag));
  const W = 660, H = 150, L = 46, TOP = 24, GAP = 38, R = Math.log2(data.limit);
  const y = v => TOP + H / 2 - Math.max(-R, Math.min(R, v)) / R * H / 2;
  function add(parent, tag, attributes, words) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const k in attributes) e.setAttribute(k, attributes[k]);
    if (words !== undefined) e.textContent = words;
    return parent.appendChild(e);
  }
  let points = [], timer = null;
  function build() {
    svg.replaceChildren(); points = [];
    const panels = data.depths[depth.value];
    svg.setAttribute("viewBox", `0 0 ${W} ${panels.length * (H + GAP) + 36}`);
    panels.forEach((p, i) => {
      const g = add(svg, "g", {transform: `translate(0 ${i * (H + GAP)})`});
      add(g, "text", {x: L, y: 16, fill: p.colour, "font-weight": "bold", "font-size": 14}, p.name);
      for (let t = -R; t <= R; t++) {
        add(g, "line", {x1: L, x2: W - 8, y1: y(t), y2: y(t), stroke: t ? "#e3e3e3" : "#555"});
        const label = t < 0 ? `1/${2 ** -t}` : `${2 ** t}`;
        add(g, "text", {x: L - 8, y: y(t) + 4, "text-anchor": "end", "font-size": 12, fill: "#333"}, label);
      }
      const n = p.kinds.length;
      [...p.kinds].forEach((kind, b) => {
        const x = L + 14 + (n > 1 ? b / (n - 1) : 0.5) * (W - L - 36);
        const big = kind === "t", colour = big ? "#111" : p.colour;
        const c = big ? add(g, "rect", {x: x - 5, width: 10, height: 10, stroke: colour, "stroke-width": 1.6})
                      : add(g, "circle", {cx: x, r: 4, stroke: colour, "stroke-width": 1.4});
        add(c, "title", {}, p.names[b]);
        points.push([c, p, b, colour, big]);
      });
      if (i === panels.length - 1)
        add(g, "text", {x: (L + W) / 2, y: TOP + H + 28, "text-anchor": "middle", "font-size": 13, fill: "#333"},
            "block, input on the left; squares are transitions, hollow ones are off the scale");
    });
    epoch.max = Math.max(...panels.map(p => p.values.length - 1));
    move();
  }
  function move() {
    const e = +epoch.value, notes = [];
    for (const [c, p, b, colour, big] of points) {
      const row = p.values[Math.min(e, p.values.length - 1)], v = row[b];
      c.style.display = v === null || e >= p.values.length ? "none" : "";
      if (v === null) continue;
      c.setAttribute(big ? "y" : "cy", big ? y(v) - 5 : y(v));
      c.setAttribute("fill", Math.abs(v) > R ? "#fff" : colour);
    }
    for (const p of data.depths[depth.value]) if (e >= p.values.length) notes.push(p.name + " has ended");
    const when = e ? "epoch " + e : "before the first update";
    text.textContent = [when, ...notes].join("; ");
    epoch.setAttribute("aria-valuetext", when);
  }
  function stop() { clearInterval(timer); timer = null; play.textContent = "play"; }
  play.onclick = () => {
    if (timer) return stop();
    if (+epoch.value >= +epoch.max) epoch.value = 0;
    play.textContent = "stop";
    timer = setInterval(() => {
      if (!root.isConnected || +epoch.value >= +epoch.max) return stop();
      epoch.value = +epoch.value + 1; move();
    }, 400);
  };
  epoch.oninput = move; depth.onchange = build; build();
})();
"""
PAGE = """<div id="{id}" style="background:#fff;color:#222;padding:.6rem;border-radius:.25rem;max-width:672px">
<p style="margin:0 0 .4rem;font-weight:bold">{title}</p>
<div style="display:flex;gap:.7rem;align-items:center;flex-wrap:wrap">
<label>depth <select>{options}</select></label><button type="button">play</button>
<input type="range" min="0" value="0" step="1" aria-label="epoch" style="flex:1;min-width:10rem">
<output style="min-width:11rem"></output></div>
<svg role="img" aria-label="{alt}" style="display:block;width:100%;height:auto;font-family:inherit"></svg>
<noscript>The drawing needs JavaScript; the figure above shows the same numbers.</noscript></div>
<script>{script}</script>"""
ALT = "The gradient-norm ratio of each block at the chosen epoch, one panel for each architecture; the line is at one."


def stepper(table: pd.DataFrame, title: str = "") -> str:
    """Each block's ratio at an epoch, for a slider: the HTML of the drawing, with all data and no address in it.

    Columns: ``arch``, ``depth``, ``epoch`` (0 is before the first update), ``block``, ``name``, ``kind``,
    ``log_ratio``; one run a network.

    Returns
    -------
    str
        HTML, or a sentence in a paragraph where the table is empty.

    Examples
    --------
    >>> row = {"arch": "plain", "depth": 20, "epoch": 0, "block": 1, "name": "a", "kind": "residual", "log_ratio": 0.0}
    >>> "plain" in stepper(pd.DataFrame([row])).lower()
    True
    """
    depths = sorted(set(table.depth), reverse=True)
    if not depths:
        return "<p>There is no record to step through yet.</p>"
    data = {
        "limit": LIMIT,
        "depths": {
            str(depth): [_panel(of(table, arch, depth), arch, depth) for arch in TITLES if len(of(table, arch, depth))]
            for depth in depths
        },
    }
    # A record may hold anything: what it names must not end the script.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    key = "epochs-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    script = SCRIPT.replace("ID", json.dumps(key), 1).replace("DATA", text, 1)
    options = "".join(f"<option>{depth}</option>" for depth in depths)
    return PAGE.format(id=key, title=escape(title), options=options, alt=ALT, script=script)


def _panel(rows: pd.DataFrame, arch: str, depth: int) -> dict[str, Any]:
    """What the script needs of one network; the ratios as logarithms to the base 2, one row an epoch from 0 on."""
    wide = rows.pivot_table(index="epoch", columns="block", values="log_ratio", dropna=False)
    wide = wide.reindex(range(int(wide.index.max()) + 1)).astype(float) / math.log(2)
    first = rows.drop_duplicates("block").set_index("block").loc[wide.columns]
    return {
        "name": name(arch, depth),
        "colour": mpl.colors.to_hex(ARCHITECTURES[arch]),
        "kinds": "".join("t" if kind == "transition" else "r" for kind in first.kind),
        "names": list(first.name.str.replace("_", " ")),
        "values": [[round(v, 3) if math.isfinite(v) else None for v in row] for row in wide.to_numpy()],
    }
