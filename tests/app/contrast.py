"""Contrast of text, as WCAG 2 defines it (level AA): every text that a page paints, in the page
and in the components' own trees, against what is painted below it."""

from playwright.sync_api import Page

WEAK_TEXT = """() => {
  const FIELDS = "textarea, input:not([type=range], [type=checkbox], [type=radio], [type=file])";
  const parse = (text) => {
    const found = text.match(/^rgba?\\(([^)]+)\\)$/) ?? text.match(/^color\\(srgb ([^)]+)\\)$/);
    if (!found) return null;
    const numbers = found[1].split(/[ ,\\/]+/).map(Number);
    const scale = text.startsWith("color") ? 255 : 1;
    return [...numbers.slice(0, 3).map((one) => one * scale), numbers[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255).map((part) =>
      part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [bright, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (bright + 0.05) / (dark + 0.05);
  };
  const parents = (element) => {
    const all = [];
    for (let at = element; at; at = at.assignedSlot ?? at.parentElement ?? at.getRootNode().host ?? null) all.push(at);
    return all;
  };
  const weak = [];
  let seen = 0;
  const measure = (element) => {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent.trim());
    const words = own.join(" ").trim() || (element.matches(FIELDS) ? element.value || element.placeholder : "");
    if (!words || element.matches("style, script, option, title, noscript")) return;
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (!box.width || !box.height || style.visibility !== "visible") return;
    // what cannot be used is exempt; icons are letters of a font; what a reader of the screen skips stands there twice
    if (element.closest("[disabled], [aria-disabled=true], [aria-hidden=true]")) return;
    if (style.fontFamily.includes("Material Symbols")) return;
    // numbers on cells and bars have a colour that Plotly chose for these; a slider's number hangs outside its thumb
    if (element.closest(".heatmaplayer, .barlayer, [data-testid=stSliderThumbValue]")) return;
    const isDrawn = element instanceof SVGElement;
    const colour = parse(isDrawn ? style.fill : style.color);
    if (!colour) return;
    let opacity = isDrawn ? Number(style.fillOpacity) : 1;
    const layers = [];
    let isCovered = false;
    for (const parent of parents(element)) {
      const computed = getComputedStyle(parent);
      opacity *= Number(computed.opacity);
      const painted = parse(computed.backgroundColor);
      if (painted && painted[3] > 0 && !isCovered) {
        layers.push(painted);
        isCovered = painted[3] === 1;
      }
    }
    if (opacity < 0.05) return; // shown on hover alone
    seen += 1;
    const below = layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    const front = over([...colour.slice(0, 3), colour[3] * opacity], below);
    const size = Number.parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = ratio(front, below);
    if (found < (isLarge ? 3 : 4.5))
      weak.push(`${found.toFixed(2)}: ${words.slice(0, 60)} (${front.map(Math.round)} on ${below.map(Math.round)})`);
  };
  const visit = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) visit(element.shadowRoot);
      measure(element);
    }
  };
  visit(document.body);
  return [weak, seen];
}"""


def weak_text(page: Page) -> tuple[list[str], int]:
    """Texts whose contrast is below 4.5 to 1 (3 to 1 where they are large), each with its colours;
    and how many texts were looked at."""
    weak, seen = page.evaluate(WEAK_TEXT)
    return weak, seen
