// A command as plain text, and a button that copies it. Called again whenever the server has new data.

const span = (...parts) => {
  const made = document.createElement("span");
  made.append(...parts);
  return made;
};

export default function ({ parentElement, data }) {
  const code = parentElement.querySelector("code");
  const button = parentElement.querySelector("button");
  const said = parentElement.querySelector("output");
  parentElement.querySelector(".caption").textContent = data.caption;
  if (code.shown !== data.text) {
    const lines = data.text.split("\n").map((line) => span(...line.split(/(\s+)/).map((word) => (word.startsWith("--") ? span(word) : word))));
    code.replaceChildren(...lines);
    code.shown = data.text;
    said.textContent = "";
  }
  button.setAttribute("aria-label", "Copy the command");
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(data.text);
      said.textContent = "copied";
    } catch {
      // plain http from another machine: the browser gives no clipboard
      window.getSelection().selectAllChildren(code);
      said.textContent = "marked: Ctrl-C copies it";
    }
  };
}
