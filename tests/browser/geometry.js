// Return the visible parts of one <svg> and their positions, in the user units of that <svg>. Definitions, hidden
// elements and transparent areas are left out.
(selector) => {
  const svg = document.querySelector(selector);
  if (!svg) return null;
  const toUser = svg.getScreenCTM().inverse();
  const toScreen = (element) => toUser.multiply(element.getScreenCTM());
  const unpainted = "defs, clipPath, mask, marker, pattern, symbol, linearGradient, radialGradient, title, desc, metadata, style, script";

  const shown = (element) =>
    !element.closest(unpainted) && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  const painted = (style, kind) =>
    style[kind] !== "none" && !/^rgba\(.*, 0\)$/.test(style[kind]) && Number(style[`${kind}Opacity`]) > 0;

  const stroked = (style) => painted(style, "stroke") && parseFloat(style.strokeWidth) > 0;

  const about = (element) => ({
    id: element.id,
    classes: element.getAttribute("class") ?? "",
    data: { ...element.dataset },
  });

  const around = (points) => {
    const xs = points.map((point) => point.x);
    const ys = points.map((point) => point.y);
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  };

  const corners = ({ x, y, width, height }, matrix) =>
    [[x, y], [x + width, y], [x, y + height], [x + width, y + height]].map(([across, down]) =>
      new DOMPoint(across, down).matrixTransform(matrix));

  // A text with several <tspan>s has several lines, each of them one text node. The rectangles of a range around a text
  // node agree with getExtentOfChar, and also work for HTML in a <foreignObject>.
  const line = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const points = [...range.getClientRects()].flatMap((rect) => corners(rect, toUser));
    const element = node.parentElement;
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    if (!points.length || (drawn && !painted(style, "fill") && !stroked(style))) return [];
    return [{
      ...about(element),
      string: node.data.replace(/[ \t\r\n]+/g, " ").trim(),
      box: around(points),
      size: parseFloat(style.fontSize),
      fill: drawn ? style.fill : style.color,
    }];
  };

  const texts = () => {
    const walker = document.createTreeWalker(svg, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const inside = node.parentElement.closest("text, foreignObject");
      if (inside && node.data.trim() && shown(node.parentElement)) found.push(...line(node));
    }
    return found;
  };

  // A line without an area. A filled or closed shape is an outline instead.
  const open = (element, style) =>
    element.matches("line") || (element.matches("polyline, path") && !painted(style, "fill")
      && !/z\s*$/i.test(element.getAttribute("d") ?? ""));

  const node = (element, style) => ({
    ...about(element),
    tag: element.tagName,
    box: around(corners(element.getBBox(), toScreen(element))),
    fill: style.fill,
    stroke: style.stroke,
  });

  const edge = (element, style) => {
    const matrix = toScreen(element);
    const scale = Math.sqrt(Math.abs(matrix.a * matrix.d - matrix.b * matrix.c));
    const length = element.getTotalLength();
    const steps = Math.max(1, Math.ceil((length * scale) / 2));
    const at = (step) => {
      const { x, y } = element.getPointAtLength((length * step) / steps).matrixTransform(matrix);
      return [x, y];
    };
    return {
      ...about(element),
      tag: element.tagName,
      points: Array.from({ length: steps + 1 }, (_, step) => at(step)),
      stroke: style.stroke,
      dashed: style.strokeDasharray !== "none",
      marker_start: style.markerStart !== "none",
      marker_end: style.markerEnd !== "none",
    };
  };

  const shapes = [...svg.querySelectorAll("rect, circle, ellipse, polygon, polyline, path, line")]
    .filter((element) => element instanceof SVGElement && shown(element))
    .map((element) => [element, getComputedStyle(element)]);
  const nodes = shapes.filter(([element, style]) => !open(element, style) && (painted(style, "fill") || stroked(style)));
  const edges = shapes.filter(([element, style]) => open(element, style) && stroked(style));
  const { x, y, width, height } = svg.viewBox.baseVal ?? {};
  const whole = width ? [x, y, x + width, y + height] : [0, 0, svg.clientWidth, svg.clientHeight];
  return {
    view_box: whole,
    texts: texts(),
    nodes: nodes.map(([element, style]) => node(element, style)),
    edges: edges.map(([element, style]) => edge(element, style)),
  };
}
