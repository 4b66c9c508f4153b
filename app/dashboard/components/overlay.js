// A map over a grey photograph. The pointer, or an arrow key, chooses the query, whose row of the matrix is here already;
// a click keeps it. Beside it every head of every layer from the kept query: a click shows that head over the photograph.
// Called again whenever the server has new data.

const SVG = "http://www.w3.org/2000/svg";
const UNKNOWN = 65535;
const LOG_REACH = 2; // powers of ten to either side of uniform
const GAP = 1; // cells between heads
const SCALES = [
  ["head", "each head to its maximum"],
  ["shared", "one scale for all"],
  ["uniform", "times uniform attention"],
  ["log", "log of times uniform"],
];

export default function ({ parentElement, data, setTriggerValue }) {
  const photograph = parentElement.querySelector(".photograph");
  const state = (photograph.state ??= { opacity: 0.65, scale: "head", fromClass: false, patch: null, timer: 0, head: null });
  if (!state.timer) state.patch = null; // what was asked for has come
  const unpacked = unpack(data);
  for (const name of ["title", "caption"]) parentElement.querySelector(`.${name}`).textContent = data[name];
  const refresh = (hover = null) => draw(parentElement, data, unpacked, state, hover);
  controls(parentElement.querySelector(".controls"), data, unpacked, state, refresh, setTriggerValue);
  frame(photograph, data);
  model(parentElement.querySelector(".model"), data, unpacked, state, setTriggerValue);
  refresh();

  const { rows, columns } = data;
  const under = (event) => {
    const box = event.target.closest?.(".frame")?.getBoundingClientRect();
    if (!box) return null;
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    return Math.min(Math.max(row, 0), rows - 1) * columns + Math.min(Math.max(column, 0), columns - 1);
  };
  const go = (patch, delay) => {
    state.patch = patch;
    state.fromClass = false;
    clearTimeout(state.timer);
    state.timer = setTimeout(() => {
      state.timer = 0;
      setTriggerValue("pick", patch);
    }, delay);
    refresh();
    controls(parentElement.querySelector(".controls"), data, unpacked, state, refresh, setTriggerValue);
  };
  photograph.onpointermove = (event) => refresh(under(event));
  photograph.onpointerleave = () => refresh();
  photograph.onclick = (event) => {
    const patch = under(event);
    if (patch !== null) go(patch, 0);
  };
  photograph.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const here = state.patch ?? data.patch;
    const moved = move(event.key, here % columns, Math.floor(here / columns), columns, rows);
    if (!moved) return;
    const patch = moved[1] * columns + moved[0];
    if (patch !== here) go(patch, event.repeat ? 120 : 0);
    event.preventDefault();
    event.stopPropagation();
  };
  const asks = unpacked.isMatrix ? "the pointer or arrow keys choose the query" : "arrow keys choose the patch";
  photograph.setAttribute("aria-label", `${data.title}, ${rows} by ${columns} patches; ${asks}`);
}

function move(key, x, y, width, height) {
  const moves = {
    ArrowLeft: [Math.max(x - 1, 0), y],
    ArrowRight: [Math.min(x + 1, width - 1), y],
    ArrowUp: [x, Math.max(y - 1, 0)],
    ArrowDown: [x, Math.min(y + 1, height - 1)],
    Home: [0, y],
    End: [width - 1, y],
  };
  return moves[key];
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// Numbers as they were, NaN where they are not known.
function numbers(packed) {
  const steps = new Uint16Array(bytes(packed.text).buffer);
  const span = packed.high - packed.low;
  return Float32Array.from(steps, (step) => (step === UNKNOWN ? NaN : packed.low + (step / (UNKNOWN - 1)) * span));
}

function unpack(data) {
  const shape = data.values.shape;
  const isMatrix = !data.isColour && shape.length === 3;
  const [height, width] = data.isColour ? shape : shape.slice(-2);
  const heads = data.heads && numbers(data.heads);
  const classHeads = data.classHeads && numbers(data.classHeads);
  return { values: numbers(data.values), isMatrix, height, width, heads, classHeads, table: bytes(data.colours) };
}

function largest(values) {
  let top = 0;
  for (const value of values) if (value > top) top = value;
  return top;
}

// How numbers become colours: from `low` to `high`, after `change`. `own` is what a map's own maximum is taken of.
function scaleOf(data, unpacked, state, own, keys) {
  if (!data.heads) return { low: data.values.low, high: data.values.high, change: (value) => value, words: data.unit };
  if (state.scale === "log") {
    return { low: -LOG_REACH, high: LOG_REACH, change: (value) => Math.log10(value * keys), words: "log10 of attention over uniform" };
  }
  const all = largest(state.fromClass ? unpacked.classHeads : unpacked.heads);
  if (state.scale === "uniform") {
    return { low: 0, high: all * keys || 1, change: (value) => value * keys, words: "attention over uniform attention" };
  }
  return { low: 0, high: (state.scale === "shared" ? all : largest(own)) || 1, change: (value) => value, words: data.unit };
}

function paint(pixels, at, value, scale, table, alpha) {
  if (Number.isNaN(value)) return; // transparent
  const share = (scale.change(value) - scale.low) / (scale.high - scale.low || 1);
  const step = Math.round(Math.min(Math.max(share, 0), 1) * 255) * 3;
  pixels.set([table[step], table[step + 1], table[step + 2], alpha], at * 4);
}

function count(values) {
  let found = 0;
  for (const value of values) if (!Number.isNaN(value)) found++;
  return found;
}

function draw(parent, data, unpacked, state, hover) {
  const { values, isMatrix, height, width, table } = unpacked;
  const kept = state.patch ?? data.patch;
  const patch = hover ?? kept;
  const fromClass = isMatrix && state.fromClass && hover === null && data.prefix > 0;
  const size = height * width;
  const query = fromClass ? data.prefix - 1 : data.prefix + patch;
  const shown = isMatrix ? values.subarray(query * size, (query + 1) * size) : values;
  const canvas = parent.querySelector(".photograph canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const scale = scaleOf(data, unpacked, state, shown, count(shown) || 1);
  for (let at = 0; at < size; at++) {
    if (data.isColour) {
      const colour = [0, 1, 2].map((channel) => Math.round(values[at * 3 + channel] * 255));
      if (!Number.isNaN(values[at * 3])) image.data.set([...colour, 255], at * 4);
    } else {
      paint(image.data, at, shown[at], scale, table, 255);
    }
  }
  context.putImageData(image, 0, 0);
  canvas.style.opacity = state.opacity;
  mark(parent.querySelectorAll(".photograph .cursor"), fromClass ? null : kept, data.columns);
  mark(parent.querySelectorAll(".photograph .hover"), hover, data.columns);
  const legend = parent.querySelector(".photograph .scale");
  legend.style.display = data.isColour ? "none" : "";
  const [low, bar, high, unit] = legend.children;
  low.textContent = short(scale.low);
  high.textContent = short(scale.high);
  bar.style.background = `linear-gradient(to right, ${data.gradient})`;
  unit.textContent = scale.words;
  parent.querySelector(".said").textContent = words(data, isMatrix, shown, patch, fromClass);
  if (data.heads && hover === null) drawHeads(parent.querySelector(".model canvas"), data, unpacked, state);
}

function short(value) {
  return String(Number(value.toPrecision(3)));
}

function words(data, isMatrix, shown, patch, fromClass) {
  const place = (at) => `row ${Math.floor(at / data.columns) + 1}, column ${(at % data.columns) + 1}`;
  if (data.isColour) return `${place(patch)}: patches of one colour have like tokens.`;
  if (!isMatrix) {
    const value = shown.length === data.rows * data.columns ? shown[patch] : NaN;
    return Number.isNaN(value) ? place(patch) : `${place(patch)}: ${short(value)} ${data.unit}`;
  }
  const from = fromClass ? "From the class token" : `From ${place(patch)}`;
  let most = -1;
  shown.forEach((value, at) => {
    const isItself = !data.heads && at === patch;
    if (!Number.isNaN(value) && !isItself && (most < 0 || value > shown[most])) most = at;
  });
  return most < 0 ? `${from}: the encoder has no token here under this mask.` : `${from}: most at ${place(most)}, ${short(shown[most])}.`;
}

function frame(photograph, data) {
  if (!photograph.children.length) {
    const made = photograph.appendChild(document.createElement("div"));
    made.className = "frame";
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const name of ["cursor outer", "cursor inner", "hover"]) {
      const rect = svg.appendChild(document.createElementNS(SVG, "rect"));
      rect.setAttribute("class", name);
      rect.setAttribute("width", 1);
      rect.setAttribute("height", 1);
    }
    made.append(document.createElement("img"), document.createElement("canvas"), svg);
    const legend = photograph.appendChild(document.createElement("div"));
    legend.className = "scale";
    legend.append(...["span", "i", "span", "b"].map((tag) => document.createElement(tag)));
  }
  const [image, , svg] = photograph.firstChild.children;
  if (image.src !== data.photograph) image.src = data.photograph;
  image.alt = "the image in grey";
  image.draggable = false;
  svg.setAttribute("viewBox", `0 0 ${data.columns} ${data.rows}`);
}

function mark(rects, patch, columns) {
  for (const rect of rects) {
    rect.style.display = patch === null ? "none" : "";
    if (patch === null) continue;
    rect.setAttribute("x", patch % columns);
    rect.setAttribute("y", Math.floor(patch / columns));
  }
}

// --- every head of every layer ---

function model(room, data, unpacked, state, setTriggerValue) {
  if (!data.heads) return room.replaceChildren();
  const [layers, heads, rows, columns] = data.heads.shape;
  if (!room.children.length) {
    const box = document.createElement("div");
    box.className = "heads";
    const [chosen, pointed] = ["chosen", "pointed"].map((name) => Object.assign(document.createElement("div"), { className: name }));
    box.append(document.createElement("canvas"), chosen, pointed);
    room.append(document.createElement("p"), box);
  }
  const [line, box] = room.children;
  const [, chosen, pointed] = box.children;
  const say = (layer, head) => {
    const which = head ? `head ${head}` : "mean of heads";
    line.textContent = `Layers downwards, heads across (first: their mean). Layer ${layer}, ${which}.`;
  };
  const outline = (mark, at) => {
    mark.style.display = at ? "" : "none";
    if (!at) return;
    const [layer, head] = at;
    const [width, height] = [100 / (heads + 1), 100 / layers];
    Object.assign(mark.style, {
      left: `${head * width}%`, top: `${(layer - 1) * height}%`,
      width: `${(width * columns) / (columns + GAP)}%`, height: `${(height * rows) / (rows + GAP)}%`, // without the gap behind it
    });
  };
  const here = [data.layer, data.head];
  state.head = null;
  outline(chosen, here);
  outline(pointed, null);
  say(...here);
  const under = (event) => {
    const area = box.getBoundingClientRect();
    const head = Math.floor(((event.clientX - area.left) / area.width) * (heads + 1));
    const layer = Math.floor(((event.clientY - area.top) / area.height) * layers) + 1;
    return [Math.min(Math.max(layer, 1), layers), Math.min(Math.max(head, 0), heads)];
  };
  box.onpointermove = (event) => {
    outline(pointed, under(event));
    say(...under(event));
  };
  box.onpointerleave = () => {
    outline(pointed, null);
    say(...here);
  };
  box.onclick = (event) => setTriggerValue("head", under(event));
  room.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const [layer, head] = state.head ?? here;
    const moved = move(event.key, head, layer - 1, heads + 1, layers);
    if (moved) {
      state.head = [moved[1] + 1, moved[0]];
      outline(pointed, state.head);
      say(...state.head);
    } else if (event.key === "Enter" || event.key === " ") {
      setTriggerValue("head", state.head ?? here);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  room.setAttribute("aria-label", `${layers} layers of ${heads} heads; arrow keys point to one, Enter shows it`);
}

function drawHeads(canvas, data, unpacked, state) {
  const [layers, heads, rows, columns] = data.heads.shape;
  const size = rows * columns;
  const values = state.fromClass ? unpacked.classHeads : unpacked.heads;
  const [wide, high] = [columns + GAP, rows + GAP];
  Object.assign(canvas, { width: (heads + 1) * wide, height: layers * high });
  const context = canvas.getContext("2d");
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head <= heads; head++) {
      const at = (layer * heads + head - 1) * size;
      const own = head ? values.subarray(at, at + size) : mean(values, layer, heads, size);
      const image = context.createImageData(columns, rows);
      const scale = scaleOf(data, unpacked, state, own, count(own) || 1);
      for (let cell = 0; cell < size; cell++) paint(image.data, cell, own[cell], scale, unpacked.table, 255);
      context.putImageData(image, head * wide, layer * high);
    }
  }
}

function mean(values, layer, heads, size) {
  const found = new Float32Array(size);
  for (let head = 0; head < heads; head++) {
    const at = (layer * heads + head) * size;
    for (let cell = 0; cell < size; cell++) found[cell] += values[at + cell] / heads;
  }
  return found;
}

// --- controls ---

function controls(row, data, unpacked, state, refresh, setTriggerValue) {
  if (!row.children.length) {
    for (const name of ["Show", "Image", "Colours", "Opacity", "class"]) {
      const label = row.appendChild(document.createElement("label"));
      const field = document.createElement(["Opacity", "class"].includes(name) ? "input" : "select");
      const text = document.createElement("span");
      text.textContent = name === "class" ? "from the class token" : name;
      if (name === "class") label.className = "check";
      label.append(...(name === "class" ? [field, text] : [text, field]));
      if (name === "Opacity") Object.assign(field, { type: "range", min: 0, max: 1, step: 0.05 });
      if (name === "class") field.type = "checkbox";
      field.onkeydown = (event) => event.stopPropagation(); // Streamlit has letters as shortcuts
    }
  }
  const [kind, view, scale, opacity, fromClass] = [...row.children].map((label) => label.querySelector("select, input"));
  options(kind, data.kinds, data.kind);
  options(view, data.views, data.view);
  options(scale, SCALES, state.scale);
  opacity.value = state.opacity;
  fromClass.checked = state.fromClass;
  const visible = (field, is) => (field.parentElement.style.display = is ? "" : "none");
  visible(view, data.views.length > 1);
  visible(scale, Boolean(data.heads));
  visible(fromClass, Boolean(data.classHeads));
  if (!data.classHeads) state.fromClass = false;
  kind.onchange = () => setTriggerValue("choose", ["kind", kind.value]);
  view.onchange = () => setTriggerValue("choose", ["view", view.value]);
  scale.onchange = () => {
    state.scale = scale.value;
    refresh();
  };
  opacity.oninput = () => {
    state.opacity = Number(opacity.value);
    refresh();
  };
  fromClass.onchange = () => {
    state.fromClass = fromClass.checked;
    refresh();
  };
}

function options(select, wanted, value) {
  const known = wanted.map(([name]) => name).join();
  if (select.dataset.options !== known) select.replaceChildren(...wanted.map(([name, text]) => new Option(text, name)));
  select.dataset.options = known;
  select.value = value;
}
