// Hundreds of small pictures, cut out of one sheet; a click, or Enter, opens one. Arrow keys go from one to the next, so that Tab
// does not stop at each. Called again whenever the server has new data.

export default function ({ parentElement, data, setTriggerValue }) {
  const room = parentElement.querySelector(".gallery");
  const { sheet, rows, across, ratio, items } = data;
  room.style.setProperty("--sheet", `url("${sheet}")`);
  room.style.setProperty("--size", `${across * 100}% ${rows * 100}%`);
  room.style.setProperty("--ratio", ratio);
  room.setAttribute("aria-label", `${items.length} images; arrow keys move, Enter opens the microscope`);
  while (room.children.length > items.length) room.lastChild.remove();
  items.forEach(([image, word, title], number) => {
    const button = room.children[number] ?? room.appendChild(empty());
    const [picture, label] = button.children;
    const [column, row] = [image % across, Math.floor(image / across)];
    const share = (at, count) => (count > 1 ? (at / (count - 1)) * 100 : 0);
    picture.style.backgroundPosition = `${share(column, across)}% ${share(row, rows)}%`;
    label.textContent = word;
    button.title = title;
    button.setAttribute("aria-label", title);
    button.tabIndex = number === 0 ? 0 : -1;
    button.onclick = () => setTriggerValue("open", image);
  });
  room.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const buttons = [...room.children];
    const here = buttons.indexOf(event.target);
    const wide = buttons.filter((one) => one.offsetTop === buttons[0].offsetTop).length;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide, Home: -here, End: buttons.length - 1 - here };
    if (here < 0 || !(event.key in moves)) return;
    const next = buttons[here + moves[event.key]];
    if (next) {
      buttons[here].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  };
}

function empty() {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("i"), document.createElement("span"));
  return button;
}
