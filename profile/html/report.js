'use strict';
(() => {
const data = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');

// el makes an element. Text goes in as text, never as markup.
function el(name, props = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(props)) {
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (k in e && k !== 'role') e[k] = v;
    else e.setAttribute(k, v);
  }
  e.append(...children);
  return e;
}

// ---- numbers

const count = (n) => Math.round(n).toLocaleString('en-US');
const share = (part, all) => all > 0 ? (100 * part / all).toFixed(part / all < 0.001 && part > 0 ? 3 : 1) + ' %' : '–';
function trim(v, digits) { return v.toFixed(digits).replace(/\.?0+$/, ''); }
function size(n) {
  let unit = 0;
  while (n >= 1024 && unit < 4) { n /= 1024; unit++; }
  return trim(n, 2) + ' ' + ['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit];
}
function time(ns) {
  if (Math.abs(ns) >= 1e10) return (ns / 1e9).toFixed(2) + ' s';
  if (Math.abs(ns) >= 1e5 || ns === 0) return (ns / 1e6).toFixed(2) + ' ms';
  return (ns / 1e3).toFixed(2) + ' µs';
}
const short = (n) => n >= 1e9 ? trim(n / 1e9, 2) + ' G' : n >= 1e6 ? trim(n / 1e6, 2) + ' M' : n >= 1e4 ? trim(n / 1e3, 1) + ' k' : count(n);

// Axes that charts are drawn along.
const axes = {
  time: {name: 'Time', format: time, tick: (v, step) => step >= 1e9 ? v / 1e9 + ' s' : step >= 1e5 ? trim(v / 1e6, 1) + ' ms' : step >= 1e3 ? trim(v / 1e6, 3) + ' ms' : trim(v / 1e3, 3) + ' µs'},
  instructions: {name: 'Instructions', format: (v) => count(v), tick: (v, step) => step >= 1e6 ? trim(v / 1e6, 1) + ' M' : step >= 1e3 ? trim(v / 1e3, 1) + ' k' : count(v)},
};

// ---- colours

// The colours are those of the style sheet, so that there is one place for them.
const probe = document.body.appendChild(el('span', {hidden: true}));
let palette = {};
function readPalette() {
  palette = {tones: []};
  const read = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  for (const name of ['bg', 'card', 'text', 'soft', 'line', 'hit', 'dim', 'focus', 'disk', 'write', 'memory']) palette[name] = read(name);
  for (let i = 0; i < 5; i++) palette.tones.push(shades(read('tone' + i)));
}
const channels = (color) => color.match(/[\d.]+/g).map(Number).slice(0, 3);
const mix = (a, b, part) => a.map((v, i) => Math.round(v + (b[i] - v) * part));
// readable is a colour with the text that can be read on it.
function readable(c) {
  const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return {fill: `rgb(${c})`, text: 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#15101a' : '#ffffff'};
}
// shades makes four shades of a colour, each with one that stands back.
function shades(color) {
  return [0, 0.1, 0.2, 0.3].map((part) => {
    const c = mix(channels(color), [255, 255, 255], part);
    return {...readable(c), faded: readable(mix(c, channels(palette.card), 0.45))};
  });
}
function hash(s) {
  let h = 0;
  for (let i = 0; i < s.length; i++) h = (h * 31 + s.charCodeAt(i)) | 0;
  return (h ^ (h >>> 15)) & 3;
}

// ---- the tooltip

const tip = document.body.appendChild(el('div', {id: 'tip', hidden: true, 'aria-hidden': 'true'}));
// showTip shows lines of text at a place of the window; the first is the title.
function showTip(x, y, lines) {
  tip.replaceChildren(...lines.map((line, i) => el(i ? 'p' : 'strong', {textContent: line})));
  tip.hidden = false;
  const w = tip.offsetWidth, h = tip.offsetHeight, room = document.documentElement.clientWidth;
  tip.style.left = Math.max(4, Math.min(x + 14, room - w - 4)) + 'px';
  tip.style.top = (y + 18 + h > innerHeight ? Math.max(4, y - h - 12) : y + 18) + 'px';
}
const hideTip = () => { tip.hidden = true; };

// ---- charts

const charts = [];
const redraw = () => charts.forEach((c) => c.redraw());

// Canvas is a canvas that is as wide as its box, and is drawn again when anything changes.
class Canvas {
  constructor(box, label, keys) {
    this.box = box;
    this.canvas = box.appendChild(el('canvas', {tabIndex: 0, role: 'application', 'aria-label': label, 'aria-description': keys}));
    this.ctx = this.canvas.getContext('2d');
    this.canvas.addEventListener('pointerleave', hideTip);
    new ResizeObserver(() => this.redraw()).observe(box);
    charts.push(this);
  }
  redraw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => { this.due = 0; this.paint(); });
  }
  paint() {
    const w = this.box.clientWidth, h = this.height(), scale = devicePixelRatio || 1;
    if (!w) return;
    this.width = w;
    const {canvas, ctx} = this;
    if (canvas.width !== Math.round(w * scale) || canvas.height !== Math.round(h * scale)) {
      canvas.width = Math.round(w * scale);
      canvas.height = Math.round(h * scale);
      canvas.style.height = h + 'px';
    }
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    ctx.clearRect(0, 0, w, h);
    ctx.textBaseline = 'middle';
    this.draw(ctx, w, h);
  }
  font(px, weight = '') { this.ctx.font = `${weight} ${px}px ${getComputedStyle(document.body).fontFamily}`; }
}

// fit cuts text so that it is at most w wide; of very narrow places nothing is left.
function fit(ctx, text, w) {
  if (w < 14) return '';
  if (ctx.measureText(text).width <= w) return text;
  let lo = 0, hi = text.length;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (ctx.measureText(text.slice(0, mid) + '…').width <= w) lo = mid; else hi = mid - 1;
  }
  return lo > 1 ? text.slice(0, lo) + '…' : '';
}

// View is a part of an axis. All charts along the same axis share it, and so are zoomed together.
class View {
  constructor(axis, max) {
    this.changed = [];
    this.show(axis, max);
  }
  // show shows all of an axis.
  show(axis, max) {
    Object.assign(this, {axis, max, least: max / 1e5});
    this.reset();
  }
  set(from, to) {
    const span = Math.min(this.max, Math.max(this.least, to - from));
    if (to - from < span) from = (from + to - span) / 2;
    this.from = Math.max(0, Math.min(from, this.max - span));
    this.to = this.from + span;
    if (span === this.max) { this.from = 0; this.to = this.max; }
    this.changed.forEach((f) => f());
  }
  whole() { return this.from === 0 && this.to === this.max; }
  zoom(factor, at = (this.from + this.to) / 2) { this.set(at - (at - this.from) / factor, at + (this.to - at) / factor); }
  pan(part) { const by = part * (this.to - this.from); this.set(this.from + by, this.to + by); }
  reset() { this.set(0, this.max); }
  text() { return `${this.axis.format(this.from)} to ${this.axis.format(this.to)}`; }
}

const keysHelp = 'Plus and minus zoom, left and right move, up and down read what is drawn, 0 shows everything.';
let scrolled = -Infinity; // when the page was
addEventListener('scroll', () => { scrolled = performance.now(); hideTip(); }, {passive: true});

// Chart is a canvas along a view. Its user zooms with the wheel, two fingers or keys, and moves it by dragging.
class Chart extends Canvas {
  constructor(box, label, view) {
    super(box, label, keysHelp);
    this.view = view;
    this.chosen = -1;
    this.said = box.appendChild(el('output', {className: 'hidden', 'aria-live': 'polite', 'aria-label': label}));
    view.changed.push(() => this.redraw());
    const c = this.canvas;
    c.addEventListener('blur', () => { this.chosen = -1; hideTip(); this.redraw(); });
    c.addEventListener('keydown', (e) => this.key(e));
    c.addEventListener('wheel', (e) => this.wheel(e), {passive: false});
    c.addEventListener('dblclick', () => this.view.reset());
    this.fingers = new Map();
    c.addEventListener('pointerdown', (e) => {
      if (e.button) return;
      c.setPointerCapture(e.pointerId);
      this.fingers.set(e.pointerId, e.clientX);
      hideTip();
    });
    for (const name of ['pointerup', 'pointercancel']) c.addEventListener(name, (e) => this.fingers.delete(e.pointerId));
    c.addEventListener('pointermove', (e) => this.move(e));
  }
  x(v) { return (v - this.view.from) / (this.view.to - this.view.from) * this.width; }
  at(clientX) { return this.view.from + (clientX - this.canvas.getBoundingClientRect().left) / this.width * (this.view.to - this.view.from); }
  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const {view} = this;
    const act = {
      '+': () => view.zoom(1.6), '=': () => view.zoom(1.6), '-': () => view.zoom(1 / 1.6), '_': () => view.zoom(1 / 1.6),
      '0': () => view.reset(), 'Home': () => view.set(0, view.to - view.from), 'End': () => view.set(view.max - (view.to - view.from), view.max),
      'ArrowLeft': () => view.pan(-0.15), 'ArrowRight': () => view.pan(0.15),
      'ArrowUp': () => this.choose(-1), 'ArrowDown': () => this.choose(1),
    }[e.key];
    if (!act) return;
    e.preventDefault();
    hideTip();
    act();
  }
  // choose goes to the next of the chart's items: what is drawn, with its place on the axis and the lines that tell about it.
  choose(by) {
    const items = this.items();
    if (!items.length) return;
    this.chosen = Math.max(0, Math.min(items.length - 1, this.chosen + by));
    const {from, to, lines} = items[this.chosen], {view} = this, span = view.to - view.from;
    if (to < view.from || from > view.to) view.set((from + to - span) / 2, (from + to + span) / 2);
    const [x, y, w, h] = this.rect(items[this.chosen]), box = this.canvas.getBoundingClientRect();
    showTip(box.left + Math.max(0, Math.min(x + w / 2, box.width)), box.top + y + h - 12, lines);
    this.said.textContent = lines.join(', ');
    this.redraw();
  }
  // outline draws a line around the chosen item.
  outline(ctx) {
    const item = this.chosen >= 0 && this.items()[this.chosen];
    if (!item) return;
    const [x, y, w, h] = this.rect(item);
    ctx.strokeStyle = palette.text;
    ctx.lineWidth = 2;
    ctx.strokeRect(Math.max(x, 1), y, Math.max(Math.min(x + w, this.width - 1) - Math.max(x, 1), 2), h);
  }
  wheel(e) {
    if (performance.now() - scrolled < 300) return; // the page is being scrolled, and came by here
    const sideways = e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY);
    if (this.view.whole() && (sideways || e.deltaY > 0)) return; // there is nowhere to go: the page scrolls
    e.preventDefault();
    const by = (sideways ? e.deltaX || e.deltaY : e.deltaY) * (e.deltaMode ? 30 : 1);
    if (sideways) this.view.pan(by / this.width);
    else this.view.zoom(Math.exp(-Math.max(-300, Math.min(300, by)) / 400), this.at(e.clientX));
  }
  move(e) {
    const last = this.fingers.get(e.pointerId);
    if (last === undefined) {
      const box = this.canvas.getBoundingClientRect();
      const lines = this.hit(e.clientX - box.left, e.clientY - box.top);
      if (lines) showTip(e.clientX, e.clientY, lines); else hideTip();
      return;
    }
    const others = [...this.fingers].filter(([id]) => id !== e.pointerId);
    if (others.length) {
      const fixed = others[0][1], was = Math.abs(last - fixed), is = Math.abs(e.clientX - fixed);
      if (was > 8 && is > 8) this.view.zoom(is / was, this.at(fixed));
    } else {
      this.view.pan((last - e.clientX) / this.width);
    }
    this.fingers.set(e.pointerId, e.clientX);
  }
  // ticks draws the axis at the top, with lines down to the bottom.
  ticks(ctx, w, h, top = 22) {
    const {view} = this;
    const span = view.to - view.from;
    if (!(span > 0)) return;
    let step = 10 ** Math.floor(Math.log10(span / (w / 90)));
    for (const f of [2, 2.5, 2]) if (span / step > w / 90) step *= f;
    this.font(11);
    ctx.lineWidth = 1;
    for (let i = Math.ceil(view.from / step); i * step <= view.to; i++) {
      const x = this.x(i * step), text = view.axis.tick(i * step, step);
      ctx.fillStyle = palette.line;
      ctx.fillRect(Math.round(x), top - 6, 1, h - top + 6);
      const wide = ctx.measureText(text).width;
      if (x + 4 + wide > w) continue;
      ctx.fillStyle = palette.soft;
      ctx.fillText(text, x + 4, top - 12);
    }
  }
  // bar draws a part of a lane, and its name if there is room.
  bar(ctx, from, to, y, h, shade, text) {
    let x = this.x(from), end = this.x(to);
    if (end < 0 || x > this.width) return;
    x = Math.max(x, -2);
    end = Math.min(end, this.width + 2);
    ctx.fillStyle = shade.fill;
    const gap = end - x > 3 ? 1 : 0;
    ctx.fillRect(x, y, Math.max(end - x - gap, 0.6), h);
    if (!text || end - x < 24) return;
    const left = Math.max(x, 0) + 6;
    const cut = fit(ctx, text, Math.min(end, this.width) - left - 4);
    ctx.fillStyle = shade.text;
    if (cut) ctx.fillText(cut, left, y + h / 2 + 0.5);
  }
}

// zoomTools adds buttons that do what the wheel and the keys do, and says what is visible.
function zoomTools(box, view, name) {
  const range = el('output', {className: 'range', 'aria-live': 'polite', 'aria-label': name + ': visible range'});
  const say = () => { range.textContent = view.text(); };
  view.changed.push(say);
  say();
  const button = (text, label, act) => el('button', {type: 'button', textContent: text, 'aria-label': `${name}: ${label}`, title: label, onclick: act});
  box.append(range, button('−', 'zoom out', () => view.zoom(1 / 1.6)), button('+', 'zoom in', () => view.zoom(1.6)), button('All', 'show everything', () => view.reset()));
  box.hidden = false;
}

// ---- the timeline

class Timeline extends Chart {
  constructor(box) {
    super(box, 'Timeline of the boot: phases, steps and marks', new View(axes.time, data.total));
    this.lanes = [[30, 38], [72, 24]];
    this.lay((p) => p.ns);
  }
  // lay lays the phases end to end by what they took, and their steps below them.
  lay(value) {
    this.spans = [];
    let at = 0;
    for (const p of data.phases) {
      const span = (q, from, more) => this.spans.push({name: q.name, from, to: from + value(q), took: q.ns < 1e5 ? time(q.ns) : q.ms + ' ms', ns: q.ns, n: q.n, tone: p.tone || 0, ...more});
      span(p, at, {lane: 0});
      let from = at;
      (p.steps || []).forEach((s, i) => {
        span(s, from, {lane: 1, shade: 1 + i % 2 * 2});
        from += value(s);
      });
      at += value(p);
    }
    this.steps = this.spans.some((s) => s.lane);
    return at;
  }
  // along draws the timeline along time, or along instructions.
  along(counted) {
    this.marks = counted ? [] : data.marks || [];
    const max = this.lay((p) => counted ? p.n || 0 : p.ns);
    this.chosen = -1;
    this.view.show(counted ? axes.instructions : axes.time, max);
  }
  height() { return this.steps ? 124 : 98; }
  draw(ctx, w, h) {
    this.ticks(ctx, w, h - 22, 26);
    for (const s of this.spans) {
      const [y, height] = this.lanes[s.lane];
      this.font(s.lane ? 12 : 13, s.lane ? '' : '600');
      this.bar(ctx, s.from, s.to, y, height, palette.tones[s.tone][s.shade || 0], s.lane ? s.name : `${s.name} · ${this.view.axis === axes.time ? s.took : count(s.n)}`);
    }
    this.outline(ctx);
    this.font(11);
    const y = h - 10;
    let free = -Infinity;
    for (const m of this.marks) {
      let x = this.x(m.at);
      if (x < -1 || x > w + 1) continue;
      x = Math.max(4, Math.min(x, w - 4));
      ctx.fillStyle = palette.soft;
      ctx.beginPath();
      ctx.moveTo(x - 3.5, y - 7);
      ctx.lineTo(x + 3.5, y - 7);
      ctx.lineTo(x, y - 12);
      ctx.fill();
      const wide = ctx.measureText(m.name).width, left = Math.max(0, Math.min(x - wide / 2, w - wide));
      if (left < free) continue;
      ctx.fillText(m.name, left, y + 2);
      free = left + wide + 8;
    }
  }
  hit(x, y) {
    const v = this.view.from + x / this.width * (this.view.to - this.view.from), slack = (this.view.to - this.view.from) / this.width * 4;
    if (y > this.height() - 24) {
      const near = this.marks.filter((m) => Math.abs(m.at - v) < slack * 2);
      return near.length ? near.slice(0, 6).flatMap((m) => [`mark ${m.name}: ${time(m.at)}`]) : null;
    }
    const lane = this.lanes.findIndex(([top, height]) => y >= top && y <= top + height);
    const s = this.spans.find((s) => s.lane === lane && v >= s.from && v < s.to);
    if (!s) return null;
    return this.about(s);
  }
  about(s) {
    const lines = [s.name, `${s.took}, ${share(s.ns, data.total)} of the boot`];
    if (s.n) lines.push(`${count(s.n)} instructions, ${share(s.n, data.counted)}`);
    return lines.concat(`from ${this.view.axis.format(s.from)} to ${this.view.axis.format(s.to)}`);
  }
  items() { return this.spans.map((s) => ({...s, lines: this.about(s)})); }
  rect(s) { return [this.x(s.from), this.lanes[s.lane][0], this.x(s.to) - this.x(s.from), this.lanes[s.lane][1]]; }
}

// choice makes buttons of which one is pressed; the first is at once.
function choice(label, options) {
  const group = el('div', {className: 'group', role: 'group', 'aria-label': label});
  for (const [text, act] of options) {
    group.append(el('button', {type: 'button', textContent: text, onclick: (e) => {
      for (const b of group.children) b.setAttribute('aria-pressed', b === e.currentTarget);
      act();
    }}));
  }
  group.firstChild.click();
  return group;
}

if (data.total > 0 && $('timeline')) {
  const timeline = new Timeline($('timeline')), tools = $('timeline-tools');
  zoomTools(tools, timeline.view, 'Timeline');
  const counted = data.phases.filter((p) => p.n).length;
  const group = choice('What the timeline is drawn along', [['Time', () => timeline.along(false)], ['Instructions', () => timeline.along(true)]].slice(0, counted ? 2 : 1));
  if (counted) tools.prepend(group);
}

// ---- the flame graph

// Tree is a decoded profile. Nodes are numbers, callers before callees; 0 is the root. Those that are called from a node, and from
// what it calls, are the nodes after it up to end[node].
class Tree {
  constructor(p) {
    const n = p.count + 1, bytes = Uint8Array.from(atob(p.nodes), (c) => c.charCodeAt(0));
    Object.assign(this, {kind: p.kind, names: p.names, files: p.files, tones: p.tones, metrics: p.metrics, size: n});
    this.parent = new Int32Array(n);
    this.frame = new Int32Array(n);
    this.depth = new Int32Array(n);
    this.end = new Int32Array(n);
    this.self = p.metrics.map(() => new Float64Array(n));
    let at = 0;
    const next = () => {
      for (let v = 0, unit = 1; ; unit *= 128) {
        const b = bytes[at++];
        v += (b & 127) * unit;
        if (b < 128) return v;
      }
    };
    this.frame[0] = -1;
    for (let i = 1, last = 0; i < n; i++) {
      for (let up = next(); up > 0; up--) last = this.parent[last];
      this.parent[i] = last;
      this.depth[i] = this.depth[last] + 1;
      this.frame[i] = next();
      for (const self of this.self) self[i] = next();
      last = i;
    }
    this.end.forEach((_, i) => { this.end[i] = i + 1; });
    this.total = this.self.map((self) => self.slice());
    for (let i = n - 1; i > 0; i--) {
      const p = this.parent[i];
      if (this.end[i] > this.end[p]) this.end[p] = this.end[i];
      for (const total of this.total) total[p] += total[i];
    }
    this.short = this.names.map(shortName);
    this.tone = new Uint8Array(n); // of the phase
    for (let i = 1, phase = 0; i < n; i = this.end[i], phase++) this.tone.fill(this.tones[phase], i, this.end[i]);
    this.shade = Uint8Array.from(this.names, hash);
  }
  name(i) { return i ? this.names[this.frame[i]] : 'all'; }
  isFunction(i) { return this.depth[i] > 1; }
  // path returns a node's callers from the root on, and the node itself.
  path(i) {
    const path = [i];
    while (i) path.push(i = this.parent[i]);
    return path.reverse();
  }
}

// shortName leaves the folders of a Go package out.
function shortName(name) {
  const paren = name.search(/[([]/), cut = name.lastIndexOf('/', paren < 0 ? name.length : paren);
  return cut > 0 && !name.includes(' ') ? name.slice(cut + 1) : name;
}

const units = {instructions: (v) => count(v) + ' instructions', bytes: size, ns: time, samples: (v) => count(v) + ' samples'};
const rowHeight = 20;

class Flame extends Canvas {
  constructor(box) {
    const scroller = box.appendChild(el('div', {className: 'flame'}));
    const inner = scroller.appendChild(el('div'));
    super(inner, 'Flame graph: the boot by its calls, callers above callees', 'The arrow keys go from frame to frame, Enter zooms into one, Escape or minus zooms out, 0 shows everything.');
    Object.assign(this, {scroller, inner, sorted: false, focus: 0, selected: 0, rects: [], rows: 1, query: '', changed: []});
    scroller.addEventListener('scroll', () => { hideTip(); this.redraw(); });
    const c = this.canvas;
    c.addEventListener('keydown', (e) => this.key(e));
    c.addEventListener('click', (e) => { const r = this.under(e); if (r) this.zoom(r.node); });
    c.addEventListener('pointermove', (e) => {
      const r = this.under(e);
      c.style.cursor = r ? 'pointer' : 'default';
      if (r) showTip(e.clientX, e.clientY, this.about(r.node)); else hideTip();
    });
  }
  // show shows a tree by one of its metrics.
  show(tree, metric) {
    if (tree !== this.tree) Object.assign(this, {focus: 0, selected: 0});
    Object.assign(this, {tree, metric, total: tree.total[metric], self: tree.self[metric], format: units[tree.metrics[metric].unit], orders: new Map()});
    if (!this.total[this.focus]) this.focus = this.selected = 0;
    this.search(this.query);
    [this.from, this.to] = this.range(this.focus);
    this.update();
  }
  update() {
    this.changed.forEach((f) => f());
    this.redraw();
  }
  // children returns what a node calls, in the order in which it is drawn; what has nothing of the metric is left out.
  children(i) {
    let list = this.orders.get(i);
    if (!list) {
      list = [];
      for (let j = i + 1; j < this.tree.end[i]; j = this.tree.end[j]) if (this.total[j] > 0) list.push(j);
      if (this.sorted || this.tree.kind === 'sampled') list.sort((a, b) => this.total[b] - this.total[a]);
      this.orders.set(i, list);
    }
    return list;
  }
  // range returns where a node lies among all, in the metric's unit.
  range(i) {
    let from = 0;
    for (let j = i; j; j = this.tree.parent[j]) {
      for (const k of this.children(this.tree.parent[j])) {
        if (k === j) break;
        from += this.total[k];
      }
    }
    return [from, from + this.total[i]];
  }
  zoom(i) {
    this.focus = this.selected = i;
    const start = [this.from, this.to], end = this.range(i), t0 = performance.now();
    cancelAnimationFrame(this.moving);
    const step = (t) => {
      const part = calm.matches ? 1 : Math.min(1, Math.max(0, t - t0) / 220), ease = 1 - (1 - part) ** 3;
      this.from = start[0] + (end[0] - start[0]) * ease;
      this.to = start[1] + (end[1] - start[1]) * ease;
      this.redraw();
      if (part < 1) this.moving = requestAnimationFrame(step);
    };
    step(t0);
    this.update();
  }
  sort(sorted) {
    this.sorted = sorted;
    this.orders = new Map();
    [this.from, this.to] = this.range(this.focus);
    this.update();
  }
  // search marks the functions whose names contain a text, and adds up what they and their callees used.
  search(query) {
    const {tree, total} = this, want = query.trim().toLowerCase();
    this.query = query;
    this.matches = null;
    if (want) {
      this.matches = Uint8Array.from(tree.names, (name) => name.toLowerCase().includes(want) ? 1 : 0);
      this.found = 0;
      const functions = new Set();
      for (let i = 1, until = 0; i < tree.size; i++) {
        if (!tree.isFunction(i) || !this.matches[tree.frame[i]] || !total[i]) continue;
        functions.add(tree.frame[i]);
        if (i < until) continue; // below another that was found
        this.found += total[i];
        until = tree.end[i];
      }
      this.functions = functions.size;
    }
    this.update();
  }
  height() { return Math.min(this.rows * rowHeight, this.scroller.clientHeight || 600); }
  paint() {
    if (!this.tree) return;
    this.layout(this.inner.clientWidth);
    const h = this.rows * rowHeight + 'px';
    if (this.inner.style.height !== h) this.inner.style.height = h;
    this.scroller.style.minHeight = this.scroller.clientHeight + 'px'; // so that what is below stays where it is
    super.paint();
  }
  // layout finds the frames that are wide enough to be seen. Their number is bounded by the pixels, however large the tree is.
  layout(width) {
    const {tree, total} = this, scale = width / (this.to - this.from || 1), least = 0.5;
    this.rects = [];
    this.rows = 1;
    const stack = [[0, 0]];
    while (stack.length) {
      const [i, at] = stack.pop();
      const x = (at - this.from) * scale, w = total[i] * scale;
      if (w < least || x + w < 0 || x > width) continue;
      const depth = tree.depth[i];
      this.rects.push({node: i, x: Math.max(x, 0), w: Math.min(x + w, width) - Math.max(x, 0), depth});
      this.rows = Math.max(this.rows, depth + 1);
      let from = at;
      for (const j of this.children(i)) {
        if (total[j] * scale >= least) stack.push([j, from]);
        from += total[j];
      }
    }
  }
  draw(ctx, w, h) {
    const {tree} = this, top = this.scroller.scrollTop;
    const inFocus = (i) => i >= this.focus && i < tree.end[this.focus];
    for (const r of this.rects) {
      const y = r.depth * rowHeight - top;
      if (y + rowHeight < 0 || y > h) continue;
      const i = r.node, hit = this.matches && tree.isFunction(i) && this.matches[tree.frame[i]];
      let {fill, text, faded} = i ? palette.tones[tree.tone[i]][tree.isFunction(i) ? tree.shade[tree.frame[i]] : 0] : {fill: palette.dim, text: palette.text};
      if (i && !inFocus(i)) ({fill, text} = faded);
      if (hit) [fill, text] = [palette.hit, palette.card];
      else if (this.matches) [fill, text] = [palette.dim, palette.soft];
      ctx.fillStyle = fill;
      ctx.fillRect(r.x, y, Math.max(r.w - (r.w > 3 ? 1 : 0), 0.5), rowHeight - 1);
      if (r.w >= 28) {
        this.font(12, tree.depth[i] < 2 ? '600' : '');
        ctx.fillStyle = text;
        const cut = fit(ctx, i ? tree.short[tree.frame[i]] : `all · ${this.format(this.total[0])}`, r.w - 10);
        if (cut) ctx.fillText(cut, r.x + 5, y + rowHeight / 2);
      }
      if (i === this.selected && document.activeElement === this.canvas) {
        ctx.strokeStyle = palette.text;
        ctx.lineWidth = 2;
        ctx.strokeRect(r.x + 1, y + 1, Math.max(r.w - 3, 1), rowHeight - 3);
      }
    }
  }
  under(e) {
    const box = this.canvas.getBoundingClientRect(), x = e.clientX - box.left;
    const depth = Math.floor((e.clientY - box.top + this.scroller.scrollTop) / rowHeight);
    return this.rects.find((r) => r.depth === depth && x >= r.x && x < r.x + r.w);
  }
  // about says what there is to say of a node, the name first.
  about(i) {
    const {tree} = this, all = this.total[0], lines = [i ? tree.name(i) : 'all'];
    lines.push(`${this.format(this.total[i])}, ${share(this.total[i], all)} of all`);
    if (tree.parent[i]) lines.push(`${share(this.total[i], this.total[tree.parent[i]])} of its caller`);
    if (tree.isFunction(i)) lines.push(`${this.format(this.self[i])} by itself, ${share(this.self[i], all)}`);
    if (tree.files[tree.frame[i]]) lines.push(tree.files[tree.frame[i]]);
    return lines;
  }
  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const {tree} = this, row = tree.depth[this.selected];
    const beside = (by) => {
      const list = this.rects.filter((r) => r.depth === row).sort((a, b) => a.x - b.x), at = list.findIndex((r) => r.node === this.selected);
      return list[at + by]?.node;
    };
    const out = () => this.zoom(tree.parent[this.focus]);
    const act = {
      'ArrowUp': () => this.select(tree.parent[this.selected]),
      'ArrowDown': () => this.select(this.rects.filter((r) => tree.parent[r.node] === this.selected && r.node).sort((a, b) => b.w - a.w)[0]?.node),
      'ArrowLeft': () => this.select(beside(-1)), 'ArrowRight': () => this.select(beside(1)),
      'Enter': () => this.zoom(this.selected), ' ': () => this.zoom(this.selected), '+': () => this.zoom(this.selected), '=': () => this.zoom(this.selected),
      'Escape': out, 'Backspace': out, '-': out, '0': () => this.zoom(0), 'Home': () => this.zoom(0),
    }[e.key];
    if (!act) return;
    e.preventDefault();
    hideTip();
    act();
  }
  select(i) {
    if (i === undefined) return;
    this.selected = i;
    const y = this.tree.depth[i] * rowHeight, {scrollTop: top, clientHeight: h} = this.scroller;
    if (y < top) this.scroller.scrollTop = y;
    else if (y + rowHeight > top + h) this.scroller.scrollTop = y + rowHeight - h;
    this.update();
  }
}

const labels = {instructions: 'Instructions', time: 'Time', samples: 'Samples', touched: 'Touched memory'};
const shownFunctions = 20;

// flameGraph makes the flame graph with its tools, path, status and table of functions.
function flameGraph() {
  const flame = new Flame($('flame')), trees = data.profiles.map((p) => new Tree(p));
  const order = el('button', {type: 'button', 'aria-pressed': false, textContent: 'By size', title: 'Largest callees first, instead of those called first', onclick: () => {
    flame.sort(!flame.sorted);
    order.setAttribute('aria-pressed', flame.sorted);
  }});
  const search = el('input', {type: 'search', placeholder: 'Search functions', 'aria-label': 'Search functions', spellcheck: false, oninput: () => flame.search(search.value)});
  const found = el('output', {className: 'range', id: 'found', 'aria-live': 'polite'});
  $('flame-tools').append(order, search, found);
  $('flame-tools').hidden = false;
  flame.changed.push(() => {
    found.textContent = flame.matches ? `${count(flame.functions)} ${flame.functions === 1 ? 'function' : 'functions'}, ${share(flame.found, flame.total[0])}` : '';
    crumbs(flame);
    $('flame-status').textContent = flame.about(flame.selected).join(' · ');
  });
  let shown = '';
  flame.changed.push(() => {
    const key = [flame.focus, trees.indexOf(flame.tree), flame.metric].join();
    if (key !== shown) functions(flame, (name) => { search.value = name; flame.search(name); search.focus(); });
    shown = key;
  });
  for (const name of ['focus', 'blur']) flame.canvas.addEventListener(name, () => flame.redraw());
  $('flame-tools').prepend(choice('What frames are weighed by', trees.flatMap((tree) => tree.metrics.map((m, at) =>
    [labels[m.name] + (tree.kind === 'sampled' ? ', sampled' : ''), () => flame.show(tree, at)]))));
}

// crumbs shows the way from the root to what was zoomed into, which is short enough to be read.
function crumbs(flame) {
  let path = flame.tree.path(flame.focus);
  const cut = path.length > 7;
  const item = (i) => el('li', {}, i === flame.focus ? el('span', {'aria-current': 'location', textContent: flame.tree.short[flame.tree.frame[i]] || 'all'}) :
    el('button', {type: 'button', textContent: flame.tree.short[flame.tree.frame[i]] || 'all', title: flame.tree.name(i), onclick: () => flame.zoom(i)}));
  const items = path.map(item);
  if (cut) items.splice(2, items.length - 6, el('li', {textContent: '…'}));
  $('flame-path').replaceChildren(...items);
}

// functions lists the functions that used most by themselves, in what was zoomed into.
function functions(flame, choose) {
  const {tree, focus} = flame, self = new Map(), total = new Map(), running = new Map(), open = [];
  for (let i = Math.max(focus, 1); i < tree.end[focus]; i++) {
    while (open.length && i >= tree.end[open.at(-1)]) {
      const f = tree.frame[open.pop()];
      running.set(f, running.get(f) - 1);
    }
    if (!tree.isFunction(i) || !flame.total[i]) continue;
    const f = tree.frame[i];
    if (flame.self[i]) self.set(f, (self.get(f) || 0) + flame.self[i]);
    if (!running.get(f)) total.set(f, (total.get(f) || 0) + flame.total[i]); // a recursive function counts once
    running.set(f, (running.get(f) || 0) + 1);
    open.push(i);
  }
  const all = flame.total[focus], value = flame.tree.metrics[flame.metric].unit === 'instructions' ? count : flame.format;
  const top = [...self].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, shownFunctions);
  const cell = (text, more = '') => el('td', {className: 'n' + more, textContent: text});
  $('functions').replaceChildren(...top.map(([f, v]) => el('tr', {}, cell(value(v)), cell(share(v, all)), cell(value(total.get(f)), ' roomy'), cell(share(total.get(f), all), ' roomy'),
    el('td', {}, el('button', {type: 'button', className: 'link', 'aria-label': tree.names[f], onclick: () => choose(tree.names[f])},
      el('span', {className: 'folder', textContent: tree.names[f].slice(0, -tree.short[f].length)}), tree.short[f])))));
}

if (data.profiles && $('flame')) flameGraph();

// ---- memory and disk

axes.order = {name: 'Request', format: (v) => count(v), tick: (v, step) => step >= 1 ? count(v) : ''};

// BootChart is a chart of one boot, whose phases are a strip along its top.
class BootChart extends Chart {
  constructor(box, label, chart) {
    super(box, label, new View(axes[chart.axis], chart.max));
    this.chart = chart;
    this.top = chart.phases ? 46 : 28;
  }
  phases(ctx) {
    let at = 0;
    this.font(11, '600');
    for (const p of this.chart.phases || []) {
      this.bar(ctx, at, at + p.ns, 24, 17, palette.tones[p.tone || 0][0], p.name);
      at += p.ns;
    }
  }
  phaseAt(v) {
    let at = 0;
    for (const p of this.chart.phases || []) {
      if (v >= at && v < at + p.ns) return p.name;
      at += p.ns;
    }
    return '';
  }
  // level draws a line across, and what it stands for.
  level(ctx, y, text) {
    ctx.fillStyle = palette.line;
    ctx.fillRect(0, Math.round(y), this.width, 1);
    this.font(11);
    ctx.fillStyle = palette.soft;
    ctx.fillText(text, 4, y - 8);
  }
}

class MemoryChart extends BootChart {
  constructor(box, chart) {
    super(box, 'Touched memory over time', chart);
    this.along(chart);
  }
  // along draws another chart of the same, on another clock.
  along(chart) {
    this.chart = chart;
    this.chosen = -1;
    this.most = chart.points.reduce((most, p) => Math.max(most, p[1]), 1);
    this.view.show(axes[chart.axis], chart.max);
  }
  height() { return 240; }
  y(bytes) { return this.height() - 2 - bytes / this.most * (this.height() - this.top - 26); }
  draw(ctx, w, h) {
    this.ticks(ctx, w, h);
    this.phases(ctx);
    const {points} = this.chart, step = 2 ** Math.floor(Math.log2(this.most / 2));
    for (let bytes = 0; bytes <= this.most; bytes += step) this.level(ctx, this.y(bytes), bytes ? size(bytes) : '');
    ctx.beginPath();
    ctx.moveTo(-2, this.y(0));
    let last = 0, lastX = -2;
    for (const [at, bytes] of points) { // a step at each: memory is touched at once
      const x = Math.max(-2, Math.min(w + 2, this.x(at)));
      if (x - lastX > 0.2 || bytes === points.at(-1)[1]) { ctx.lineTo(x, this.y(last)); ctx.lineTo(x, this.y(bytes)); lastX = x; }
      last = bytes;
    }
    ctx.lineTo(Math.min(w + 2, this.x(this.view.max)), this.y(last));
    ctx.strokeStyle = palette.memory;
    ctx.lineWidth = 2;
    ctx.stroke();
    ctx.lineTo(Math.min(w + 2, this.x(this.view.max)), this.y(0));
    ctx.lineTo(-2, this.y(0));
    ctx.globalAlpha = 0.18;
    ctx.fillStyle = palette.memory;
    ctx.fill();
    ctx.globalAlpha = 1;
    this.outline(ctx);
  }
  hit(x) {
    const v = this.view.from + x / this.width * (this.view.to - this.view.from);
    const now = this.chart.points.filter((p) => p[0] <= v).at(-1);
    return this.about(v, now ? now[1] : 0);
  }
  about(at, bytes) { return [`${size(bytes)} touched`, `by ${this.view.axis.format(at)}`, this.phaseAt(at)].filter(Boolean); }
  items() { return this.chart.points.map(([at, bytes]) => ({from: at, to: at, bytes, lines: this.about(at, bytes)})); }
  rect({from, bytes}) { return [this.x(from) - 3, this.y(bytes) - 3, 6, 6]; }
}

class DiskChart extends BootChart {
  constructor(box, chart) {
    super(box, 'Disk requests: offset over time', chart);
    this.disks = new Map();
    for (const [, disk, offset, length] of chart.requests) {
      const d = this.disks.get(disk) || {least: Infinity, most: 0};
      this.disks.set(disk, {least: Math.min(d.least, offset), most: Math.max(d.most, offset + length)});
    }
    const some = [...this.disks.keys()].sort((a, b) => a - b);
    some.forEach((disk, i) => { this.disks.get(disk).row = i; });
  }
  height() { return this.top + 190 * Math.min(this.disks.size, 4) + 8; }
  // place returns where a request is drawn. The start of a disk is at the top.
  place([, disk, offset, length, start, latency]) {
    const d = this.disks.get(disk), rowHeight = (this.height() - this.top - 8) / this.disks.size, top = this.top + d.row * rowHeight + 18, room = rowHeight - 26;
    const span = d.most - d.least || 1, x = this.x(start), y = top + (offset - d.least) / span * room;
    const w = this.chart.axis === 'time' ? this.x(start + latency) - x : this.x(start + 0.8) - x;
    return [x, y, Math.max(w, 3), Math.max(length / span * room, 3)];
  }
  draw(ctx, w, h) {
    this.ticks(ctx, w, h);
    this.phases(ctx);
    const rowHeight = (h - this.top - 8) / this.disks.size;
    for (const [disk, d] of this.disks) {
      const top = this.top + d.row * rowHeight + 18;
      const name = this.disks.size > 1 ? `disk ${disk}, ` : '';
      this.level(ctx, top, `${name}at ${size(d.least)}`);
      this.level(ctx, top + rowHeight - 26, `at ${size(d.most)}`);
    }
    for (const r of this.chart.requests) {
      const [x, y, width, height] = this.place(r), op = this.chart.ops[r[0]];
      if (x + width < 0 || x > w) continue;
      ctx.fillStyle = op === 'read' ? palette.disk : palette.write;
      ctx.fillRect(x, y, width, height);
    }
    this.outline(ctx);
  }
  hit(x, y) {
    let best = null, least = 8;
    for (const r of this.chart.requests) {
      const [left, top, w, h] = this.place(r);
      const far = Math.hypot(Math.max(left - x, 0, x - left - w), Math.max(top - y, 0, y - top - h));
      if (far < least) [best, least] = [r, far];
    }
    return best && this.about(best);
  }
  items() { return this.chart.requests.map((r) => ({from: r[4], to: r[4] + r[5], request: r, lines: this.about(r)})); }
  rect({request}) {
    const [x, y, w, h] = this.place(request);
    return [x - 2, y - 2, w + 4, h + 4];
  }
  about([op, disk, offset, length, start, latency, what]) {
    const name = this.disks.size > 1 ? ` on disk ${disk}` : '';
    const lines = [`${this.chart.ops[op]} ${size(length)}${name} at ${size(offset)}`];
    if (latency) lines.push(`took ${time(latency)}`);
    lines.push(this.chart.axis === 'order' ? `request ${start + 1}` : `at ${this.view.axis.format(start)}`);
    return lines.concat(this.chart.whats[what].split('\n').filter(Boolean));
  }
}

if (data.memory && $('memory')) {
  const chart = new MemoryChart($('memory'), data.memory[0]), tools = $('memory-tools');
  zoomTools(tools, chart.view, 'Memory');
  if (data.memory.length > 1) tools.prepend(choice('What memory is drawn along', data.memory.map((m) => [axes[m.axis].name, () => chart.along(m)])));
}
if (data.disk && $('disk')) zoomTools($('disk-tools'), new DiskChart($('disk'), data.disk).view, 'Disk');

// ---- light and dark

const dark = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? 'dark' : 'light')) === 'dark';
function themed() {
  $('theme').textContent = isDark() ? 'Light' : 'Dark';
  $('theme').setAttribute('aria-label', `Show in ${isDark() ? 'light' : 'dark'} colours`);
  readPalette();
  redraw();
}
$('theme').hidden = false;
$('theme').addEventListener('click', () => { document.documentElement.dataset.theme = isDark() ? 'light' : 'dark'; themed(); });
dark.addEventListener('change', themed);
themed();
})();
