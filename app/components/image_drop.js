// A button that takes a file; so does a drop anywhere on the page, and a pasted picture. Called again whenever the server has
// new data. A file goes in parts, one after the other's receipt, so that what is left of a long way can be told.

const PART = 1 << 20; // bytes
const PATIENCE = 30_000; // milliseconds without a receipt after which the transfer counts as broken off

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".drop");
  const input = root.querySelector("input");
  const word = root.querySelector(".word");
  const done = root.querySelector(".done");
  const said = parentElement.querySelector(".said");
  const state = (root.state ??= { file: null, id: 0, at: 0, since: 0, timer: 0, controller: null });
  input.setAttribute("aria-label", data.label);
  root.title = data.help;

  const show = () => {
    const share = state.file ? state.at / state.file.size : 0;
    done.style.width = `${100 * share}%`;
    word.textContent = state.file ? `Sending: ${left(share, performance.now() - state.since)}` : data.label;
  };
  const end = (words) => {
    clearTimeout(state.timer);
    Object.assign(state, { file: null, at: 0 });
    said.textContent = words;
    show();
  };
  const send = async () => {
    const { id, at, file } = state;
    clearTimeout(state.timer);
    state.timer = setTimeout(() => end("The transfer broke off."), PATIENCE);
    const part = await base64(file.slice(at, at + PART)).catch(() => null); // a file that was moved away
    if (state.id !== id) return;
    if (part === null) end("The file cannot be read.");
    else setTriggerValue("part", { id, at, total: file.size, data: part });
  };
  const take = (file) => {
    Object.assign(state, { file, id: Math.floor(Math.random() * 2 ** 48), at: 0, since: performance.now() });
    said.textContent = "";
    if (file.size <= data.most) send();
    else {
      setTriggerValue("big", file.size);
      end("");
    }
    if (state.file && file.size > PART) show();
  };

  const { id, size } = data.received;
  if (state.file && state.id === id && size > state.at) {
    state.at = size;
    if (size < state.file.size) {
      show();
      send();
    } else end("");
  }
  if (!state.file) show();

  input.onchange = () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  };
  state.controller?.abort(); // the listeners of the call before
  const controller = (state.controller = new AbortController());
  const listen = (kind, heard) => document.addEventListener(kind, heard, { signal: controller.signal });
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  listen("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    root.classList.add("over");
  });
  listen("dragleave", (event) => event.relatedTarget || root.classList.remove("over"));
  listen("drop", (event) => {
    root.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault(); // or the browser would leave the page for the file
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  listen("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files[0]);
  });
  return () => {
    controller.abort();
    clearTimeout(state.timer);
  };
}

function left(share, milliseconds) {
  const percent = `${Math.round(100 * share)} %`;
  return share ? `${percent}, ${Math.ceil(((1 - share) / share) * (milliseconds / 1000))} s left` : percent;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
