// Frames of one image along one axis (ratios, seeds, checkpoints): a slider that asks for the frame under it, and a player.
// While the slider is dragged a small model is asked at every step, a large one when it is let go; frames that came once are kept,
// so the second round plays without a server. Called again whenever the server has new data.

const KEEP = 400; // milliseconds without a step after which the page follows the slider
const PATIENCE = 10_000; // milliseconds after which a frame that did not come is asked for again
const SPEEDS = [1, 2, 4, 8, 16];

export default function ({ parentElement, data, setTriggerValue }) {
  const room = parentElement.querySelector(".film");
  const state = (room.state ??= { frames: new Map(), key: "", at: null, asked: null, wanted: null, timer: 0, clock: 0, speed: 4 });
  state.data = data;
  state.send = setTriggerValue;
  for (const name of ["title", "caption"]) parentElement.querySelector(`.${name}`).textContent = data[name];
  if (state.key !== data.key) {
    Object.assign(state, { frames: new Map(), key: data.key, at: null, asked: null, wanted: null });
    stop(state);
  }
  if (state.home !== data.home) state.at = null; // the page went elsewhere
  state.home = data.home;
  state.frames.set(data.frame.at, data.frame);
  if (state.asked?.at === data.frame.at) state.asked = null;
  if (!room.children.length) build(room, state);
  refresh(room, state);
  next(room, state);
}

function here(state) {
  return state.at ?? state.data.home;
}

function build(room, state) {
  const add = (parent, tag, properties) => parent.appendChild(Object.assign(document.createElement(tag), properties));
  const controls = add(room, "div", { className: "controls" });
  const field = (text, tag, properties) => {
    const label = add(controls, "label", {});
    add(label, "span", { textContent: text });
    const made = add(label, tag, properties);
    made.onkeydown = (event) => event.stopPropagation(); // Streamlit has letters as shortcuts
    return made;
  };
  const axis = field("Along", "select", { className: "axis" });
  const slider = field("", "input", { className: "slider", type: "range", min: 0, step: 1 });
  const play = add(controls, "button", { className: "play", type: "button" });
  const speed = field("Frames a second", "select", { className: "speed" });
  speed.replaceChildren(...SPEEDS.map((one) => new Option(String(one))));
  speed.value = String(state.speed);
  add(room, "div", { className: "stage" });
  add(room, "p", { className: "said", role: "status" });

  axis.onchange = () => state.send("want", { axis: axis.value });
  slider.oninput = () => {
    stop(state);
    clearTimeout(state.timer);
    go(room, state, Number(slider.value), state.data.live);
  };
  // the page follows once the slider rests, so that a key held down asks it once
  slider.onchange = () => {
    clearTimeout(state.timer);
    const keep = () => state.send("want", { axis: state.data.axis, at: here(state), keep: true });
    state.timer = setTimeout(keep, KEEP);
  };
  play.onclick = () => {
    if (state.clock) {
      stop(state);
      refresh(room, state);
    } else {
      state.clock = 1;
      clearTimeout(state.timer);
      refresh(room, state);
      next(room, state);
    }
  };
  speed.onchange = () => (state.speed = Number(speed.value));
}

function stop(state) {
  if (state.clock > 1) clearTimeout(state.clock);
  state.clock = 0;
}

// Show the frame, or ask for it; one is asked for at a time, and the newest wish waits.
function go(room, state, at, isAsked) {
  state.at = at;
  if (isAsked && !state.frames.has(at)) ask(state, at);
  refresh(room, state);
}

function ask(state, at) {
  const isWaiting = state.asked && Date.now() - state.asked.since < PATIENCE;
  if (isWaiting) {
    state.wanted = at;
    return;
  }
  state.asked = { at, since: Date.now() };
  state.wanted = null;
  state.send("want", { axis: state.data.axis, at });
}

// After an answer: the newest wish, or the next frame of the film.
function next(room, state) {
  if (state.wanted !== null && !state.asked) {
    const at = state.wanted;
    state.wanted = null;
    if (!state.frames.has(at)) return ask(state, at);
  }
  if (!state.clock || !state.frames.has(here(state))) {
    if (state.clock) ask(state, here(state));
    return;
  }
  if (state.clock > 1) return; // the next one is due
  const { labels, stride } = state.data;
  const after = here(state) + stride >= labels.length ? 0 : here(state) + stride;
  if (!state.frames.has(after)) ask(state, after); // while this one is looked at
  state.clock = setTimeout(() => {
    state.clock = 1;
    go(room, state, after, true);
    next(room, state);
  }, 1000 / state.speed);
}

function refresh(room, state) {
  const { data } = state;
  const [controls, stage, said] = room.children;
  const axis = controls.querySelector(".axis");
  if (axis.dataset.options !== data.axes.join()) axis.replaceChildren(...data.axes.map(([value, words]) => new Option(words, value)));
  axis.dataset.options = data.axes.join();
  axis.value = data.axis;
  const slider = controls.querySelector(".slider");
  slider.max = data.labels.length - 1;
  slider.value = here(state);
  slider.setAttribute("aria-valuetext", data.labels[here(state)]);
  slider.previousSibling.textContent = `${data.name}: ${data.labels[here(state)]}`;
  const play = controls.querySelector(".play");
  play.textContent = state.clock ? "Pause" : "Play";
  play.setAttribute("aria-pressed", String(Boolean(state.clock)));
  const frame = state.frames.get(here(state));
  if (!frame) return; // the last one stays until this one comes
  while (stage.children.length > frame.pictures.length) stage.lastChild.remove();
  frame.pictures.forEach(([title, source], number) => {
    if (!stage.children[number]) {
      const made = stage.appendChild(document.createElement("figure"));
      made.append(document.createElement("figcaption"), document.createElement("img"));
    }
    const [caption, image] = stage.children[number].children;
    caption.textContent = title;
    if (image.src !== source) image.src = source;
    image.alt = `${title}, ${data.labels[frame.at]}`;
    image.draggable = false;
  });
  said.textContent = frame.words;
}
