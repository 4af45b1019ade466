/* Draws the book's interactive figures.  Each is a <figure class="interactive"> whose data stand in it as JSON
   (paperlib.figures.interactive writes them).  Nothing is loaded from elsewhere, and colours are in interactive.css. */
(function () {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  let count = 0;

  // -- building blocks
  function add(parent, tag, attributes = {}, ...content) {
    const vector = tag === "svg" || parent.namespaceURI === SVG;
    const element = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    element.append(...content);
    parent.append(element);
    return element;
  }

  // A <select> with its label; the options are [words], or [words, group].
  function choice(parent, label, options) {
    const select = add(add(parent, "label", {}, label + " "), "select"), groups = {};
    options.forEach(([words, group], value) => {
      const place = group ? groups[group] ||= add(select, "optgroup", {label: group}) : select;
      add(place, "option", {value}, words);
    });
    return select;
  }

  // Radio buttons; returns a function that tells the place of the chosen one.
  function radios(parent, legend, options, chosen, changed) {
    const set = add(parent, "fieldset"), name = "interactive-" + ++count;
    add(set, "legend", {}, legend);
    options.forEach((words, value) => {
      const label = add(set, "label");
      add(label, "input", {type: "radio", name, value}).checked = value === chosen;
      label.append(" " + words);
    });
    set.addEventListener("change", changed);
    return () => +set.querySelector(":checked").value;
  }

  // A slider over the places of the list `values()`, which says in words where it is; returns a function that tells
  // the place, or goes to another one.
  function slider(parent, label, values, start, words, changed) {
    const row = add(parent, "label", {class: "interactive-slider"}, label + " ");
    const range = add(row, "input", {type: "range"}), shown = add(row, "span", {"aria-hidden": true});
    function at(place = +range.value) {
      range.max = values().length - 1;
      range.value = place;
      shown.textContent = words(values()[range.value]);
      range.ariaValueText = shown.textContent;
      return +range.value;
    }
    at(start);
    range.addEventListener("input", changed);
    return at;
  }

  // Below the controls: the drawing, a key, and a sentence that is read out when it changes.
  function frame(figure, ...key) {
    const part = (tag, kind, ...content) => add(figure, tag, {class: `interactive-${kind}`}, ...content);
    figure.classList.add("interactive-drawn");
    const controls = part("div", "controls"), body = part("div", "body");
    part("p", "key", ...key);
    const summary = part("p", "summary");
    summary.id = "interactive-" + ++count;
    summary.ariaLive = "polite";
    const say = words => { if (summary.textContent !== words) summary.textContent = words; };
    const about = {"aria-label": figure.ariaLabel, "aria-describedby": summary.id};
    return {about, controls, body, summary, say};
  }

  // An empty drawing as wide as its place: letters keep their size on a phone.
  function canvas({body, about}, height) {
    const width = Math.max(260, body.clientWidth || 640);
    body.replaceChildren();
    return [add(body, "svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", ...about}), width];
  }

  function drawnAnew(body, draw) {
    let width;
    const look = () => { if (width !== (width = body.clientWidth)) draw(); };
    look();
    new ResizeObserver(look).observe(body);
  }

  const line = (svg, kind, x1, y1, x2, y2) => add(svg, "line", {class: kind, x1, y1, x2, y2});
  const text = (svg, x, y, anchor, words, kind = "tick") =>
    add(svg, "text", {x, y, "text-anchor": anchor, class: kind}, words);
  const LEFT = 48;  // of the axes
  function tick(svg, y, words, right) {
    line(svg, words === "1" ? "one" : "grid", LEFT, y, right - 4, y);
    text(svg, LEFT - 7, y + 4, "end", words);
  }
  // The height of a logarithm, on an axis from -R to R.
  const around = (top, bottom, R) => v => (top + bottom - Math.max(-1, Math.min(1, v / R)) * (bottom - top)) / 2;
  const below = (svg, y, right, words) => text(svg, (LEFT + right) / 2, y, "middle", words, "axis");
  const number = (v, digits = 3) =>
    v >= 10 ** digits ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(digits));

  // -- chapter 5: each block's ratio at an epoch
  function epochs(figure, {networks, limit}) {
    const place = frame(figure, "Squares (t1, t2, …) are transitions. Hollow marks are off the scale.");
    const network = choice(place.controls, "Network", networks.map(n => [n.name, n.name.split("-")[0]]));
    const net = () => networks[network.value];
    const play = add(place.controls, "button", {type: "button", class: "interactive-play"}, "Play");
    const when = e => e ? `epoch ${e}` : "before training";
    const epoch = slider(place.controls, "Epoch", () => net().epochs, 0, when, changed);
    const ended = () => epoch() === net().epochs.length - 1;
    let timer;

    function playing(on) {
      clearInterval(timer);
      timer = on && setInterval(step, 500);
      play.textContent = on ? "Stop" : "Play";
      place.summary.ariaLive = on ? "off" : "polite";  // not a sentence for every epoch that goes by
    }
    function step() {
      if (ended()) return playing(false);
      epoch(epoch() + 1);
      draw();
    }
    play.addEventListener("click", () => {
      if (timer) return playing(false);
      if (ended()) epoch(0);
      playing(true);
      draw();
    });
    network.addEventListener("change", changed);

    function changed() {
      playing(false);
      draw();
    }
    function draw() {
      const n = net(), e = epoch(), top = 12, bottom = 256, R = Math.log2(limit);
      const [svg, W] = canvas(place, 296);
      const y = around(top, bottom, R);
      for (let t = -R; t <= R; t++) tick(svg, y(t), t < 0 ? `1/${2 ** -t}` : `${2 ** t}`, W);
      const slot = (W - LEFT - 16) / n.blocks.length, x = b => LEFT + 6 + (b + 0.5) * slot;
      const size = Math.max(2, Math.min(5, slot / 2.4));
      n.transitions.forEach((b, i) => {
        line(svg, "mark", x(b), top, x(b), bottom);
        text(svg, x(b), bottom + 15, "middle", `t${i + 1}`);
      });
      below(svg, 292, W, "block, input on the left");
      const marks = add(svg, "g", {class: n.arch});
      n.heights[e].forEach((height, b) => {
        if (height === null) return;
        const v = height / 100, spread = (n.spread[e][b] || 0) / 100;
        const square = n.transitions.includes(b), r = size + square;
        if (spread) line(marks, "band", x(b), y(v - spread), x(b), y(v + spread)).style.strokeWidth = size;
        const kind = {class: Math.abs(v) > R ? "beyond" : "point"};
        const mark = square ? add(marks, "rect", {...kind, x: x(b) - r, y: y(v) - r, width: 2 * r, height: 2 * r})
          : add(marks, "circle", {...kind, cx: x(b), cy: y(v), r});
        add(mark, "title", {}, `${n.blocks[b]}: ${number(2 ** v, 2)}`);
      });
      place.say(told(n, e));
    }

    function told(n, e) {
      const begin = `${n.name}, ${when(n.epochs[e])}: `, [b, extreme] = n.extreme[e];
      if (b === undefined) return begin + "no run has a finite ratio.";
      const all = Math.max(...n.seeds), some = n.seeds[e], seeds = some < all ? `${some} of ${all}` : all;
      const spread = some > 1 ? "Mean and standard deviation over" : "From";
      const block = n.blocks[b] + (n.transitions.includes(b) ? ", a transition" : "");
      return `${begin}the median ratio of the ${n.blocks.length} blocks is ${number(n.median[e])}. ` +
        `Farthest from 1 is ${block}, at ${number(extreme)}. ${spread} ${seeds} seed${all > 1 ? "s" : ""}.`;
    }
    drawnAnew(place.body, draw);
  }

  // -- chapter 1: the blocks of Theorem 1, and how many there are
  function spectra(figure, {depths, rate, schedules}) {
    const place = frame(figure, "Dashed: 1 ± log(2L)/L above, log(2L)/L below. Grey: the other schedules.");
    const blocks = L => L.toLocaleString("en") + " blocks";
    const depth = slider(place.controls, "L", () => depths, Math.max(0, depths.indexOf(32)), blocks, draw);
    const schedule = radios(place.controls, "Schedule", schedules.map(s => s.name), 0, draw);

    function bars(svg, W, ends, edges) {
      const top = 24, bottom = 190, R = 1.2;
      const height = around(top, bottom, R), y = v => height(Math.log2(v));
      text(svg, 0, 12, "start", "Singular values of each block's derivative", "title");
      for (const t of [0.5, 0.75, 1, 1.5, 2]) tick(svg, y(t), String(t), W);
      const slot = (W - LEFT - 8) / ends.length, width = slot > 4 ? Math.min(slot * 0.7, 40) : slot;
      ends.forEach(([low, high], b) => {
        const x = LEFT + 4 + (b + 0.5) * slot - width / 2;
        add(svg, "rect", {class: "bar", x, y: y(high), width, height: Math.max(1.5, y(low) - y(high))});
      });
      for (const v of edges) if (Math.abs(Math.log2(v)) < R) line(svg, "rate", LEFT, y(v), W - 4, y(v));
      below(svg, bottom + 18, W, "block, 1 to L");
    }

    function rates(svg, W, chosen, at) {
      const top = 258, bottom = 404, all = schedules.flatMap(s => s.delta).concat(rate).map(Math.log10);
      const low = Math.floor(Math.min(...all)), high = Math.ceil(Math.max(...all));
      const y = v => bottom - (Math.log10(v) - low) / (high - low) * (bottom - top);
      const x = i => LEFT + 12 + i * (W - LEFT - 28) / Math.max(1, depths.length - 1);
      const curve = (kind, values) =>
        add(svg, "polyline", {class: kind, points: values.map((v, i) => [x(i), y(v)])});
      text(svg, 0, top - 14, "start", "δ, the largest change of a gradient's norm", "title");
      for (let t = low; t <= high; t++) tick(svg, y(10 ** t), String(+(10 ** t).toPrecision(1)), W);
      depths.forEach((L, i) => (W > 420 || i % 2 === 0) && text(svg, x(i), bottom + 16, "middle", L));
      below(svg, bottom + 34, W, "number of blocks L");
      line(svg, "mark", x(at), top, x(at), bottom);
      curve("rate", rate);
      for (const s of schedules) if (s !== chosen) curve("other", s.delta);
      curve("chosen", chosen.delta);
      add(svg, "circle", {class: "bar", cx: x(at), cy: y(chosen.delta[at]), r: 5});
    }

    function draw() {
      const chosen = schedules[schedule()], at = depth(), delta = chosen.delta[at], [svg, W] = canvas(place, 442);
      bars(svg, W, chosen.bars[at], [1 - rate[at], 1 + rate[at]]);
      rates(svg, W, chosen, at);
      place.say(`${blocks(depths[at])}, schedule ${chosen.name}: no block changes a gradient's norm by more than ` +
        `δ = ${number(delta)}. That is ${number(delta / rate[at], 2)} times log(2L)/L, which is ${number(rate[at])}.`);
    }
    drawnAnew(place.body, draw);
  }

  // -- chapter 3: the ratio over the numbers of channels
  function channels(figure, data) {
    const swatch = side => add(figure, "span", {class: `interactive-swatch ${side}`});
    const place = frame(figure, "Rows: input channels c. Columns: output channels d. ", swatch("low"),
      " below 1, the gradient grows on its way back. ", swatch("high"), " above 1, it shrinks. †: dead networks.");
    const variant = choice(place.controls, "Variant", data.variants.map(v => [v]));
    const rate = radios(place.controls, "Learning rate", data.rates, data.rates.length - 1, changed);
    const step = slider(place.controls, "Step", () => data.steps, data.steps.length - 1, s => `after ${s} steps`, draw);
    const key = (v, s) => [v, rate(), s];
    variant.addEventListener("change", draw);

    const table = add(place.body, "table", {role: "grid", ...place.about});
    const head = add(add(table, "thead"), "tr"), rows = add(table, "tbody");
    for (const words of ["c \\ d", ...data.d]) add(head, "th", {scope: "col"}, words);
    const cells = data.c.map(c => {
      const row = add(rows, "tr");
      add(row, "th", {scope: "row"}, c);
      return data.d.map(() => add(row, "td", {tabindex: -1}));
    });
    cells[0][0].tabIndex = 0;

    // Arrows, Home and End move within the grid, which is one stop of the tabulator key.
    table.addEventListener("keydown", event => {
      const cell = event.target, i = cell.parentNode.rowIndex, j = cell.cellIndex;
      const [a, b] = {ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1],
        Home: [i, 1], End: [i, data.d.length]}[event.key] || [];
      const next = table.rows[a]?.cells[b];
      if (next?.tagName !== "TD") return;
      event.preventDefault();
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });

    // A variant that was not trained at this rate cannot be chosen.
    function changed() {
      const there = data.variants.map((_, v) => data.steps.some((_, s) => data.cells[key(v, s)]));
      [...variant.options].forEach((option, v) => { option.disabled = !there[v]; });
      if (!there[variant.value]) variant.value = there.indexOf(true);
      draw();
    }

    // What a cell shows, and what is read out where it has the focus.
    function fill(cell, c, d, [ratio, spread, alive = 0, dead = 0]) {
      const shown = alive ? ratio.toFixed(ratio < 10 ? 2 : 0) : dead ? "dead" : "–", told = [];
      if (alive) told.push(`ratio ${shown}`);
      if (alive > 1) told.push(`times or over ${spread.toFixed(2)}`);
      told.push(dead ? `${dead} of ${alive + dead} networks dead` : alive ? `seeds: ${alive}` : "not measured");
      cell.className = alive ? ratio < 1 ? "low" : "high" : "none";
      if (alive) cell.style.setProperty("--share", `${Math.round(50 * Math.min(2, Math.abs(Math.log2(ratio))))}%`);
      cell.replaceChildren(shown);
      if (alive && dead) add(cell, "small", {}, `†${dead}`);
      cell.ariaLabel = cell.title = `${c} input channels, ${d} output channels: ${told.join(", ")}`;
    }

    function draw() {
      const v = variant.value, s = step(), all = data.cells[key(v, s)] || [];
      data.c.forEach((c, i) => data.d.forEach((d, j) => fill(cells[i][j], c, d, all[i * data.d.length + j] || [])));
      const here = `${data.variants[v]}, learning rate ${data.rates[rate()]}, after ${data.steps[s]} steps: `;
      const [n, middle, pair, extreme] = data.told[key(v, s)] || [];
      place.say(here + (n ? `the ratios of the ${n} pairs are off by a factor of ${number(middle)} in the median. ` +
        `Farthest from 1 is ${pair}, at ${number(extreme)}.` : "nothing was measured."));
    }
    changed();
  }

  // -- the page, which has been read: the script is deferred
  const DRAWINGS = {epochs, spectra, channels};
  for (const figure of document.querySelectorAll("figure.interactive")) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    DRAWINGS[data.drawing]?.(figure, data);  // none where nothing is on record
  }
})();
