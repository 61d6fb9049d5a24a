// Small charts as SVG. Values are set as attributes or text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

export function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const WIDTH = 300;
const HEIGHT = 56;

/**
 * Line chart of series over the same seconds, the first one filled. A value of null is a gap in its line.
 * The scale fits 49 of 50 values, so that one spike does not flatten all others: higher values are cut off at the top.
 * A limit is a dashed line, if the scale reaches it.
 */
export class Lines {
  constructor(parent, names, seconds, limit = Infinity) {
    this.seconds = seconds;
    this.limit = limit;
    this.mark = draw("line", { class: "limit", x1: 0, x2: WIDTH, "vector-effect": "non-scaling-stroke" });
    this.series = names.map((name) => ({
      area: draw("path", { class: `area ${name}` }),
      line: draw("path", { class: `line ${name}`, "vector-effect": "non-scaling-stroke" }),
    }));
    const grid = [0.5, HEIGHT / 2, HEIGHT - 0.5].map((y) =>
      draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y, "vector-effect": "non-scaling-stroke" }));
    const marks = this.series.flatMap(({ area, line }) => [area, line]);
    this.svg = draw("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-hidden": "true",
    }, ...grid, ...marks, this.mark);
    parent.replaceChildren(this.svg);
  }

  /** Draws the series and returns the top of the scale, and the highest value. */
  show(...series) {
    const values = series.flat().filter((value) => value > 0).sort((a, b) => a - b);
    const top = nice(values[Math.ceil(values.length * 0.98) - 1] ?? 0);
    this.mark.setAttribute("visibility", this.limit <= top ? "visible" : "hidden");
    for (const end of ["y1", "y2"]) this.mark.setAttribute(end, HEIGHT - 1 - (HEIGHT - 3) * Math.min(1, this.limit / top));
    series.forEach((values, at) => {
      const points = values.map((value, index) => [
        WIDTH * (this.seconds - values.length + index) / (this.seconds - 1),
        value === null ? null : HEIGHT - 1 - (HEIGHT - 3) * Math.min(1, value / top),
      ]);
      const runs = split(points);
      this.series[at].line.setAttribute("d", runs.map((run) => `M${run.map(pair).join("L")}`).join(""));
      this.series[at].area.setAttribute("d", at ? "" : runs.map((run) =>
        `M${pair([run[0][0], HEIGHT])}L${run.map(pair).join("L")}L${pair([run.at(-1)[0], HEIGHT])}Z`).join(""));
    });
    return { top, peak: values.at(-1) ?? 0 };
  }
}

function split(points) {
  const runs = [[]];
  for (const point of points) {
    if (point[1] === null) runs.push([]);
    else runs.at(-1).push(point);
  }
  return runs.filter((run) => run.length).map((run) => run.length > 1 ? run : [run[0], [run[0][0] + 0.6, run[0][1]]]);
}

function pair([x, y]) {
  return `${x.toFixed(1)} ${y.toFixed(1)}`;
}

function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** A stacked bar. `parts`: pairs of a CSS class and a share of the whole. */
export function stacked(parts) {
  let x = 0;
  const rects = parts.map(([name, share]) => {
    const rect = draw("rect", { class: name, x: (1000 * x).toFixed(1), width: (1000 * share).toFixed(1), height: 8 });
    x += share;
    return rect;
  });
  return draw("svg", { class: "bar", viewBox: "0 0 1000 8", preserveAspectRatio: "none", "aria-hidden": "true" }, ...rects);
}
