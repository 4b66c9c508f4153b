// Buttons that only a browser can serve: the figure above as a picture, and the address of the present view.
// Called again whenever Streamlit draws the page, so it builds its row from nothing each time.

const INCH = 96; // CSS pixels
const POINTS = 8; // of text on paper
const LEAST = 6; // of headings that would touch one another
const DOTS = 600; // to the inch, of a PNG for paper
const TEXT = (POINTS * INCH) / 72; // the same in CSS pixels
const LINE = 19; // of a row of the legend at that size
const SAMPLE = 45; // of what stands before an entry's words, and of the gap to the next one
const SIZES = [
  ["screen", "screen"],
  ["3.25", "3.25 in"],
  ["6.75", "6.75 in"],
];

export default function ({ parentElement, data }) {
  const row = parentElement.querySelector(".row");
  const said = parentElement.querySelector("output");
  const say = (words) => (said.textContent = words);
  const button = (label, title, click) => {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", textContent: label, title });
    made.setAttribute("aria-label", label); // without the arrow that the style puts before it
    made.onclick = async () => {
      try {
        say("");
        await click();
      } catch (error) {
        console.warn("lcmae:", error);
        say(data.otherwise);
      }
    };
    return made;
  };
  const copied = async (words) => {
    await navigator.clipboard.writeText(words); // refused on plain http from another machine
    say("copied");
  };
  if (data.figure) {
    const size = document.createElement("select");
    size.setAttribute("aria-label", "size of the picture");
    size.title = "as on screen, or the width of a paper's column with text of 8 points";
    size.append(...SIZES.map(([value, words]) => new Option(words, value)));
    size.value = parentElement.size ?? "screen";
    const labels = ["x", "y"].map((letter) => axisLabel(letter, data.layout));
    const show = () => labels.forEach((field) => (field.hidden = size.value === "screen"));
    size.onchange = () => {
      parentElement.size = size.value;
      show();
    };
    show();
    const named = () => ({ ...data, layout: relabelled(data.layout, labels) });
    size.onkeydown = (event) => event.stopPropagation(); // Streamlit has letters as shortcuts
    row.replaceChildren(
      button("PNG", "this figure as a PNG picture, two dots per pixel, or 600 per inch", () => picture(named(), "png", size.value)),
      button("SVG", "this figure as an SVG drawing, for print", () => picture(named(), "svg", size.value)),
      button("PDF", "this figure alone, as vectors, in the browser's print window: save as PDF", () => print(named(), size.value)),
      size,
    );
    if (data.caption) row.append(button("Caption", `copies: ${data.caption}`, () => copied(data.caption)));
    if (data.bibtex) row.append(button("BibTeX", "copies the sources of this page", () => copied(data.bibtex)));
    row.append(...labels);
  } else {
    const field = Object.assign(document.createElement("input"), { readOnly: true, hidden: true });
    field.setAttribute("aria-label", "address of this view");
    row.replaceChildren(
      button("Copy link to this view", "the full address, for a colleague or a notebook", async () => {
        field.value = address(data.query);
        field.hidden = false;
        field.select();
        await navigator.clipboard.writeText(field.value); // refused on plain http from another machine: then by hand
        say("copied");
      }),
      field,
    );
  }
}

// The figure on paper: the data that is drawn above, in the house's own light template whatever the page's theme is.
// Plotly's `downloadImage` is reached through the figure's own camera: Streamlit keeps its Plotly to itself.
function picture({ figure, layout, name }, format, size) {
  const drawn = document.querySelector(`.st-key-${figure.replace(/[^a-zA-Z0-9_-]/g, "-")} .js-plotly-plot`);
  const camera = drawn._fullLayout._modeBar.buttons.flat().find((found) => found.name === "toImage");
  const box = drawn.getBoundingClientRect();
  const entries = [...drawn.querySelectorAll(".legend .legendtext")].map((entry) => entry.textContent);
  const rows = pictured(layout, size);
  const { width, height: least } = extent(rows ?? box, size, entries);
  const ticked = size === "screen" ? layout : withTicks(printed(layout), width);
  const paper = size === "screen" ? layout : wrapped(ticked, width, least, leftOf(drawn, ticked));
  // headings take nothing from the pictures below them, and labels of rows never touch
  const height = rows ? least + paper.margin.t : size === "screen" ? least : Math.max(least, heightOfTicks(paper));
  const scale = format !== "png" ? 1 : size === "screen" ? 2 : DOTS / INCH;
  const toImageButtonOptions = { format, filename: size === "screen" ? name : `${name}-${size}in`, width, height, scale };
  const wanted = size === "screen" ? layout : { ...paper, width, height };
  return camera.click({ data: drawn.data, layout: wanted, config: {}, _context: { ...drawn._context, toImageButtonOptions } });
}

// In pixels: a column's width on paper, in about the figure's own proportions, and room for the legend: it may take half of
// the height, and what is more would be cut off.
function extent({ width, height }, size, entries) {
  if (size === "screen") return { width, height };
  const wide = Number(size) * INCH;
  const across = Math.max(1, Math.floor(wide / (SAMPLE + Math.max(0, ...entries.map(lengthOf)))));
  const rows = Math.ceil(entries.length / across);
  const tall = Math.round(wide * Math.min(Math.max(height / width, 0.55), 1.4)) + LINE * Math.max(rows - 1, 0);
  return { width: wide, height: Math.max(tall, 2 * LINE * rows + LINE) };
}

// Pictures in rows fill the width on paper, whatever room the page gave them; null for other figures.
function pictured({ xaxis, yaxis, ...rest }, size) {
  if (size === "screen" || xaxis?.visible !== false || !yaxis?.scaleanchor || !xaxis.range || !yaxis.range) return null;
  const [across, down] = [xaxis.range, yaxis.range].map(([start, end]) => Math.abs(end - start));
  const wide = Number(size) * INCH;
  return { width: wide, height: ((wide - besideRows(rest)) * down) / across + 2 * TEXT };
}

// What a colour bar, or margins alone, take from rows of pictures.
const besideRows = (layout) =>
  Object.keys(layout).some((name) => /^coloraxis\d*$/.test(name) && layout[name].colorbar?.orientation !== "h") ? 100 : 24;

// Of a text on paper, in pixels.
function lengthOf(text) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${TEXT}px Helvetica, Arial, sans-serif`;
  return pen.measureText(text.replace(/<[^>]*>/g, "")).width;
}

// What the labels of the vertical axis take from the width.
function leftOf(drawn, layout) {
  const own = vertical(layout).flatMap(({ ticktext }) => ticktext ?? []).flatMap((text) => text.split("<br>"));
  const labels = own.length ? own : [...drawn.querySelectorAll(".ytick text")].map((label) => label.textContent);
  return Math.max(42, ...labels.map((text) => lengthOf(text) + 12));
}

const vertical = (layout) => Object.entries(layout).filter(([name]) => /^yaxis\d*$/.test(name)).map(([, axis]) => axis);

// Words beside the rows of a figure in lines of at most half the width.
function withTicks(layout, width) {
  const found = { ...layout };
  for (const [name, axis] of Object.entries(layout)) {
    if (!/^yaxis\d*$/.test(name) || !axis?.ticktext) continue;
    found[name] = { ...axis, ticktext: axis.ticktext.map((text) => inLines(`${text}`, 0.5 * width).join("<br>")) };
  }
  return found;
}

// In which every label of a row has its lines to itself.
function heightOfTicks(layout) {
  const plots = vertical(layout).map(({ ticktext, tickvals, range, type, domain: [start, end] = [0, 1] }) => {
    if (!ticktext || !tickvals || !range || type === "log") return 0;
    const lines = ticktext.map((text) => text.split("<br>").length);
    const rows = tickvals.slice(1).map((at, before) => {
      const room = 1.25 * TEXT * (lines[before] + lines[before + 1]) / 2 + 4;
      return room / Math.abs(at - tickvals[before]);
    });
    return (Math.max(0, ...rows) * Math.abs(range[1] - range[0])) / (end - start);
  });
  return Math.ceil(Math.max(0, ...plots) + layout.margin.t + layout.margin.b);
}

// Titles of axes and of colour bars in as many lines as their axis or bar is long.
function wrapped(layout, width, height, left) {
  const found = { ...layout };
  let most = 1;
  for (const [name, part] of Object.entries(layout)) {
    if (/^coloraxis\d*$/.test(name) && part?.colorbar?.title?.text) {
      const bar = part.colorbar;
      const room = bar.orientation === "h" ? (bar.len ?? 1) * (width - left) : height - 80;
      found[name] = { ...part, colorbar: { ...bar, title: { ...bar.title, text: inLines(bar.title.text, room).join("<br>") } } };
    }
    const letter = /^([xy])axis\d*$/.exec(name)?.[1];
    if (!letter || !part?.title?.text) continue;
    const [start, end] = part.domain ?? [0, 1];
    const room = (end - start) * (letter === "x" ? width - left - 16 : height - 90);
    const lines = inLines(part.title.text, Math.max(room, 8 * TEXT));
    if (letter === "x") most = Math.max(most, lines.length);
    found[name] = { ...part, title: { ...part.title, text: lines.join("<br>") } };
  }
  found.annotations = headings(layout.annotations ?? [], width - besideRows(layout));
  const above = Math.max(1, ...found.annotations.map((note) => (note.text ?? "").split("<br>").length));
  const margin = { ...found.margin, b: (found.margin?.b ?? 36) + (most - 1) * TEXT * 1.3 };
  if (above > 1) margin.t = Math.max(margin.t ?? 30, above * TEXT * 1.3 + 4);
  return { ...found, margin };
}

// Headings of pictures that stand in a row, in as many lines as their share of the width asks for.
// A word that is longer than its picture is made smaller, and hyphenated where it would be too small to read.
function headings(notes, width) {
  return notes.map((note) => {
    const beside = notes.filter((other) => other.y === note.y && other.xref === note.xref && other.yref === note.yref).length;
    if (note.showarrow !== false || beside < 2 || !note.text) return note;
    const room = (0.9 * width) / beside - 2; // a gap lies between pictures
    const longest = Math.max(...words(note.text).map(lengthOf));
    const scale = Math.max(Math.min(1, room / longest), LEAST / POINTS);
    const text = inLines(note.text, room / scale, true).join("<br>");
    return { ...note, text, font: { ...note.font, size: TEXT * scale } };
  });
}

const words = (text) => text.replace(/<br ?\/?>/g, " ").split(" ").filter(Boolean);

// A word in pieces that fit, with hyphens between them; one with tags in it stays whole.
function pieces(word, room) {
  if (/[<&]/.test(word) || lengthOf(word) <= room) return [word];
  const letters = Math.max(3, Math.ceil(word.length / Math.ceil((1.15 * lengthOf(word)) / room)));
  const found = word.match(new RegExp(`.{1,${letters}}`, "g"));
  return found.map((part, at) => (at < found.length - 1 ? `${part}-` : part));
}

function inLines(text, room, isBroken = false) {
  const lines = [];
  for (const word of words(text).flatMap((one) => (isBroken ? one.split(/(?<=-)/).flatMap((part) => pieces(part, room)) : [one]))) {
    const gap = isBroken && lines.at(-1)?.endsWith("-") ? "" : " ";
    const longer = lines.length ? `${lines.at(-1)}${gap}${word}` : word;
    if (lines.length && lengthOf(longer) <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

// A field for another label of an axis, for paper; without words in it the figure's own stays.
function axisLabel(letter, layout) {
  const field = Object.assign(document.createElement("input"), { className: "label", placeholder: `label of ${letter}` });
  field.setAttribute("aria-label", `label of the ${letter} axis`);
  field.title = `instead of: ${layout[`${letter}axis`]?.title?.text ?? "nothing"}`;
  field.onkeydown = (event) => event.stopPropagation(); // Streamlit has letters as shortcuts
  return field;
}

function relabelled(layout, labels) {
  const found = structuredClone(layout);
  ["xaxis", "yaxis"].forEach((name, at) => {
    const text = labels[at].hidden ? "" : labels[at].value.trim();
    if (text) found[name] = { ...found[name], title: { ...found[name]?.title, text: text.replaceAll("<", "‹") } };
  });
  return found;
}

// Every text of the layout in eight points, and margins that belong to that.
function printed(layout) {
  const size = TEXT;
  const smaller = (part) => {
    if (Array.isArray(part)) return part.map(smaller);
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(
      Object.entries(part).map(([name, value]) => {
        const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
        if (isObject && /font$/.test(name)) return [name, { ...value, size }];
        // a title is larger than the rest where it does not say its size
        if (isObject && name === "title") return [name, { ...smaller(value), font: { ...value.font, size } }];
        return [name, smaller(value)];
      }),
    );
  };
  const found = smaller(layout);
  return { ...found, font: { ...found.font, size }, margin: { l: 42, r: layout.margin?.r > 40 ? 44 : 8, t: 30, b: 36, ...(layout.margin?.l < 20 ? layout.margin : {}) } };
}

// The drawing alone on a sheet of its own size, given to the browser's printer, which writes vectors and fonts. The camera
// offers its SVG as a link to download: the click on that link is taken instead.
async function print(data, size) {
  const svg = await new Promise((found, failed) => {
    const take = (event) => {
      const link = event.target.closest?.("a[download$='.svg']");
      if (!link) return;
      event.preventDefault();
      document.removeEventListener("click", take, true);
      fetch(link.href).then((answer) => answer.text()).then(found, failed);
    };
    document.addEventListener("click", take, true);
    Promise.resolve(picture(data, "svg", size)).catch(failed);
    setTimeout(() => {
      document.removeEventListener("click", take, true);
      failed(new Error("the figure gave no drawing"));
    }, 20_000);
  });
  const drawing = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  const [width, height] = ["width", "height"].map((name) => Number.parseFloat(drawing.getAttribute(name)) / INCH);
  document.querySelector("#lcmae-sheet")?.remove();
  const sheet = document.createElement("iframe");
  Object.assign(sheet, { id: "lcmae-sheet", title: "the figure, to be printed" });
  sheet.style.cssText = "position:fixed;left:-10000px;top:0;border:0;width:1000px;height:1000px";
  sheet.setAttribute("aria-hidden", "true");
  const style = `@page{size:${width}in ${height}in;margin:0}html,body{margin:0}svg{display:block;width:${width}in;height:${height}in}`;
  const loaded = new Promise((done) => (sheet.onload = done));
  sheet.srcdoc = `<!doctype html><title>${encodeURIComponent(data.name)}</title><style>${style}</style>${drawing.outerHTML}`;
  document.body.append(sheet);
  await loaded;
  sheet.contentWindow.print();
}

function address(query) {
  const found = new URL(window.location.href);
  for (const [name, value] of Object.entries(query)) found.searchParams.set(name, value);
  return found.href;
}
