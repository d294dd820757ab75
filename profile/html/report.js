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
// shades makes four shades of a colour, and says what text is readable on them.
function shades(color) {
  const [r, g, b] = color.match(/[\d.]+/g).map(Number);
  return [0, 0.1, 0.2, 0.3].map((t) => {
    const c = [r, g, b].map((v) => Math.round(v + (255 - v) * t));
    const [lr, lg, lb] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = 0.2126 * lr + 0.7152 * lg + 0.0722 * lb;
    return {fill: `rgb(${c})`, text: light > 0.179 ? '#15101a' : '#ffffff'};
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
    Object.assign(this, {axis, max, from: 0, to: max, least: max / 1e5});
    this.changed = [];
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

const keysHelp = 'Plus and minus zoom, the arrow keys move, 0 shows everything.';

// Chart is a canvas along a view. Its user zooms with the wheel, two fingers or keys, and moves it by dragging.
class Chart extends Canvas {
  constructor(box, label, view) {
    super(box, label, keysHelp);
    this.watch(view);
    const c = this.canvas;
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
  watch(view) {
    this.view = view;
    view.changed.push(() => this.redraw());
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
      'ArrowUp': () => view.zoom(1.6), 'ArrowDown': () => view.zoom(1 / 1.6),
    }[e.key];
    if (!act) return;
    e.preventDefault();
    hideTip();
    act();
  }
  wheel(e) {
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

const views = {};
if (data.total > 0) views.time = new View(axes.time, data.total);

class Timeline extends Chart {
  constructor(box, view) {
    super(box, 'Timeline of the boot: phases, steps and marks', view);
    this.spans = [];
    let at = 0;
    for (const p of data.phases) {
      this.spans.push({name: p.name, from: at, to: at + p.ns, n: p.n, tone: p.tone || 0, lane: 0});
      let from = at;
      (p.steps || []).forEach((s, i) => {
        this.spans.push({name: s.name, from, to: from + s.ns, n: s.n, tone: p.tone || 0, shade: 1 + i % 2 * 2, lane: 1});
        from += s.ns;
      });
      at += p.ns;
    }
    this.steps = this.spans.some((s) => s.lane);
    this.lanes = [[30, 38], [72, 24]];
  }
  height() { return this.steps ? 124 : 98; }
  draw(ctx, w, h) {
    this.ticks(ctx, w, h - 22, 26);
    for (const s of this.spans) {
      const [y, height] = this.lanes[s.lane];
      this.font(s.lane ? 12 : 13, s.lane ? '' : '600');
      this.bar(ctx, s.from, s.to, y, height, palette.tones[s.tone][s.shade || 0], s.lane ? s.name : `${s.name} · ${time(s.to - s.from)}`);
    }
    this.font(11);
    const y = h - 10;
    let free = -Infinity;
    for (const m of data.marks || []) {
      const x = this.x(m.at);
      if (x < -1 || x > w + 1) continue;
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
      const near = (data.marks || []).filter((m) => Math.abs(m.at - v) < slack * 2);
      return near.length ? near.slice(0, 6).flatMap((m) => [`mark ${m.name}: ${time(m.at)}`]) : null;
    }
    const lane = this.lanes.findIndex(([top, height]) => y >= top && y <= top + height);
    const s = this.spans.find((s) => s.lane === lane && v >= s.from && v < s.to);
    if (!s) return null;
    const lines = [s.name, `${time(s.to - s.from)}, ${share(s.to - s.from, data.total)} of the boot`, `from ${time(s.from)} to ${time(s.to)}`];
    if (s.n) lines.push(count(s.n) + ' instructions');
    return lines;
  }
}

if (views.time && $('timeline')) {
  new Timeline($('timeline'), views.time);
  zoomTools($('timeline-tools'), views.time, 'Timeline');
}

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
