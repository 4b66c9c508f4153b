// One image in several pictures or maps: the same patch is marked in all of them, a click or an arrow key moves it, and in edit
// mode a stroke (or Space, or Enter) turns patches from hidden to visible and back. Called again whenever the server has new data.
//
// The server is told which patch and which mask are wanted as a whole, never a change: it hears the last message alone where
// messages come faster than its answers, and no edit is lost then. Messages are numbered, and what is wanted is shown until the
// server has heard the last of them.

const SVG = "http://www.w3.org/2000/svg";
const PATIENCE = 60_000; // milliseconds after which a message that was not heard counts as lost
const READING = 4000; // milliseconds for which a remark stays
const LIMITS = "A mask hides at least one patch, and shows at least one.";

export default function ({ parentElement, data, setTriggerValue }) {
  const board = parentElement.querySelector("[role=application]");
  const said = parentElement.querySelector(".said");
  const state = (board.state ??= { patch: null, hidden: null, stroke: null, number: 0, timer: 0, remarked: -READING });
  const isHeard = data.heard >= state.number || Date.now() - state.number > PATIENCE;
  if (isHeard && !state.stroke) Object.assign(state, { patch: null, hidden: null });
  const here = () => state.patch ?? data.patch;
  const hidden = () => state.hidden ?? data.hidden;

  const { rows, columns } = data;
  const at = (patch) => [patch % columns, Math.floor(patch / columns)];
  const tell = (patch) => {
    const [column, row] = at(patch);
    const edited = hidden()[patch] !== data.hidden[patch];
    const words = edited ? (hidden()[patch] ? "hidden" : "visible") : data.words[patch];
    const isRead = performance.now() - state.remarked > READING;
    said.textContent = isRead ? `Row ${row + 1}, column ${column + 1}: ${words ?? ""}` : LIMITS;
  };

  for (const name of ["title", "caption"]) parentElement.querySelector(`.${name}`).textContent = data[name] ?? "";
  choices(parentElement.querySelector(".choices"), data.choices ?? [], setTriggerValue);
  board.classList.toggle("editing", data.editing);
  const keys = data.editing ? "arrow keys move, Space hides or shows the patch" : "arrow keys move to another patch";
  board.setAttribute("aria-label", `${data.panels.length} ${data.kind} of ${rows} by ${columns} patches; ${keys}`);
  draw(board, data);
  cover(board, data, hidden());
  legend(parentElement.querySelector(".shared.scale"), data.scale, data.gradient);
  mark(board, "cursor", here(), at);
  mark(board, "hover", null, at);
  tell(here());

  const want = (change) => {
    Object.assign(state, change, { number: Math.max(state.number + 1, Date.now()) });
    if (change.hidden) cover(board, data, hidden());
    mark(board, "cursor", here(), at);
    tell(here());
  };
  const send = (delay) => {
    clearTimeout(state.timer);
    // a key that is held down asks the server for the last patch alone
    const message = () => ({ number: state.number, patch: here(), hidden: state.hidden });
    state.timer = setTimeout(() => setTriggerValue("want", message()), delay);
  };
  const go = (patch, delay) => {
    want({ patch });
    send(delay);
  };
  // hide or show a patch; a mask has both kinds
  const turn = (patch, value) => {
    const wanted = hidden().map((is, other) => (other === patch ? value : is));
    const isPossible = new Set(wanted).size === 2;
    state.remarked = isPossible ? -READING : performance.now();
    want(isPossible ? { patch, hidden: wanted } : { patch });
  };
  const under = (event) => {
    const frame = event.target.closest?.(".frame");
    if (!frame) return null;
    const box = frame.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    return Math.min(Math.max(row, 0), rows - 1) * columns + Math.min(Math.max(column, 0), columns - 1);
  };

  const finish = () => {
    state.stroke = null;
    send(0);
  };
  board.onpointerdown = (event) => {
    const patch = under(event);
    const isStroke = data.editing && event.isPrimary && event.button === 0 && !event.ctrlKey; // a Mac's Ctrl-click opens a menu
    if (!isStroke || patch === null || state.stroke) return;
    event.target.closest(".frame").setPointerCapture(event.pointerId); // a stroke may leave its picture
    state.stroke = { id: event.pointerId, value: hidden()[patch] ? 0 : 1, last: patch };
    turn(patch, state.stroke.value);
  };
  board.onpointermove = (event) => {
    const patch = under(event);
    const { stroke } = state;
    if (!stroke) {
      mark(board, "hover", patch, at);
      tell(patch ?? here());
    } else if (event.pointerId === stroke.id) {
      if (!event.buttons) return finish(); // its end was told to somebody else
      if (patch === null || patch === stroke.last) return;
      for (const one of between(at(stroke.last), at(patch), columns)) turn(one, stroke.value);
      stroke.last = patch;
    }
  };
  board.onpointerup = board.onpointercancel = board.onlostpointercapture = (event) => {
    if (event.pointerId === state.stroke?.id) finish();
  };
  board.onpointerleave = () => {
    mark(board, "hover", null, at);
    tell(here());
  };
  board.onclick = (event) => {
    const patch = under(event);
    if (patch !== null && !data.editing) go(patch, 0);
  };
  board.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    let [column, row] = at(here());
    const moves = {
      ArrowLeft: () => (column = Math.max(column - 1, 0)),
      ArrowRight: () => (column = Math.min(column + 1, columns - 1)),
      ArrowUp: () => (row = Math.max(row - 1, 0)),
      ArrowDown: () => (row = Math.min(row + 1, rows - 1)),
      Home: () => (column = 0),
      End: () => (column = columns - 1),
    };
    if (event.key in moves) {
      moves[event.key]();
      const patch = row * columns + column;
      if (patch !== here()) go(patch, event.repeat ? 120 : 0);
    } else if (data.editing && (event.key === " " || event.key === "Enter")) {
      if (!event.repeat) {
        turn(here(), hidden()[here()] ? 0 : 1);
        send(0);
      }
    } else {
      return;
    }
    event.preventDefault(); // the page does not scroll, and Streamlit has no shortcut there
    event.stopPropagation();
  };
}

// Patches on the way from one to another, both included: a quick pointer jumps.
function between([x0, y0], [x1, y1], columns) {
  const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0));
  return Array.from({ length: steps + 1 }, (_, step) => {
    const share = steps ? step / steps : 0;
    return Math.round(y0 + (y1 - y0) * share) * columns + Math.round(x0 + (x1 - x0) * share);
  });
}

// Pictures are made once and then changed in at, so nothing flickers and the focus stays.
function draw(board, data) {
  while (board.children.length > data.panels.length) board.lastChild.remove();
  data.panels.forEach((panel, number) => {
    const figure = board.children[number] ?? board.appendChild(empty());
    const [caption, frame, scale] = figure.children;
    const [image, svg] = frame.children;
    caption.textContent = caption.title = panel.title;
    if (image.src !== panel.source) image.src = panel.source;
    image.alt = panel.alt;
    svg.setAttribute("viewBox", `0 0 ${data.columns} ${data.rows}`);
    const [, , grid, disc] = svg.children;
    const upright = Array.from({ length: data.columns - 1 }, (_, x) => `M${x + 1} 0V${data.rows}`);
    const across = Array.from({ length: data.rows - 1 }, (_, y) => `M0 ${y + 1}H${data.columns}`);
    grid.setAttribute("d", data.lines ? [...upright, ...across].join("") : "");
    disc.style.display = panel.disc ? "" : "none";
    ["cx", "cy", "rx", "ry"].forEach((name, at) => disc.setAttribute(name, panel.disc?.[at] ?? 0));
    legend(scale, panel.scale, data.gradient);
  });
}

// What hides the hidden patches, in pictures that say so.
function cover(board, data, hidden) {
  const places = hidden.flatMap((is, patch) => (is ? [[patch % data.columns, Math.floor(patch / data.columns)]] : []));
  data.panels.forEach((panel, number) => {
    const [veil, hatch] = board.children[number].querySelector("svg").children;
    const solid = panel.veil === "solid";
    veil.setAttribute("d", solid ? places.map(([x, y]) => `M${x} ${y}h1v1h-1z`).join("") : "");
    hatch.setAttribute("d", solid ? places.map(([x, y]) => `M${x} ${y + 1}L${x + 1} ${y}`).join("") : "");
  });
}

// Lists to pick from, made once, so that the focus stays.
function choices(row, wanted, setTriggerValue) {
  while (row.children.length > wanted.length) row.lastChild.remove();
  wanted.forEach(({ name, label, options, value }, number) => {
    if (!row.children[number]) {
      const made = row.appendChild(document.createElement("label"));
      made.append(document.createElement("span"), document.createElement("select"));
    }
    const [span, select] = row.children[number].children;
    span.textContent = label;
    if (select.dataset.options !== options.join()) select.replaceChildren(...options.map((option) => new Option(option)));
    select.dataset.options = options.join();
    select.value = value;
    select.onchange = () => setTriggerValue("choose", [name, select.value]);
    select.onkeydown = (event) => event.stopPropagation(); // Streamlit has letters as shortcuts
  });
}

// What the colours of a map mean: their ends and their unit, as plain text.
function legend(scale, ends, gradient) {
  scale.style.display = ends ? "" : "none";
  if (!ends) return;
  if (!scale.children.length) scale.append(...["span", "i", "span", "b"].map((tag) => document.createElement(tag)));
  const [low, bar, high, unit] = scale.children;
  [low.textContent, high.textContent, unit.textContent] = ends;
  unit.title = ends[2];
  bar.style.background = `linear-gradient(to right, ${gradient})`;
}

function empty() {
  const figure = document.createElement("figure");
  const frame = document.createElement("div");
  frame.className = "frame";
  const image = document.createElement("img");
  image.draggable = false;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["veil solid", "hatch", "grid"]) svg.appendChild(shape("path", name));
  svg.appendChild(shape("ellipse", "disc"));
  for (const name of ["cursor outer", "cursor inner", "hover"]) svg.appendChild(shape("rect", name));
  frame.append(image, svg);
  const scale = document.createElement("div");
  scale.className = "scale";
  figure.append(document.createElement("figcaption"), frame, scale);
  return figure;
}

function shape(tag, name) {
  const made = document.createElementNS(SVG, tag);
  made.setAttribute("class", name);
  if (tag === "rect") {
    made.setAttribute("width", 1);
    made.setAttribute("height", 1);
  }
  return made;
}

function mark(board, name, patch, at) {
  for (const rect of board.querySelectorAll(`.${name}`)) {
    rect.style.display = patch === null ? "none" : "";
    if (patch === null) continue;
    const [x, y] = at(patch);
    rect.setAttribute("x", x);
    rect.setAttribute("y", y);
  }
}
