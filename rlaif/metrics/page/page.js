"use strict";
// The case browser of the report page. All text goes in as text nodes: nothing that a model wrote is ever markup.
(() => {
  const byId = (name) => document.getElementById(name);
  const data = JSON.parse(byId("case-data").textContent);
  const WINDOWS = { lung: [-600, 1500], mediastinum: [40, 400], bone: [400, 1800] };
  const SIGNS = { matched: "\u2713", differs: "\u2260", missing: "\u2212", hallucinated: "+" };
  const SIDE = { lung: "l", mediastinum: "m", bone: "b" };
  const cases = new Map(data.cases.map((one) => [one.id, one]));
  const state = { shown: [], current: null, report: 0, slice: 0, centre: -600, width: 1500, image: null };

  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") element.className = value;
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const link = (id) => "#case=" + encodeURIComponent(id);

  // ---- the list -----------------------------------------------------------------------------------------------
  const ORDERS = {
    page: () => 0,
    gain: (a, b) => better(b.gain) - better(a.gain),
    loss: (a, b) => better(a.gain, Infinity) - better(b.gain, Infinity),
    low: (a, b) => known(a.score, Infinity) - known(b.score, Infinity),
    high: (a, b) => known(b.score, -Infinity) - known(a.score, -Infinity),
    spread: (a, b) => known(b.spread, -Infinity) - known(a.spread, -Infinity),
    id: (a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }),
  };
  const known = (value, otherwise) => (typeof value === "number" ? value : otherwise);
  const better = (gain, otherwise = -Infinity) =>
    typeof gain === "number" ? (data.lower ? -gain : gain) : otherwise;
  // Two cases without the figure are equal: the difference of two infinities is no number.
  const inOrder = (compare) => (a, b) => compare(a, b) || 0;

  const haystack = (one) => {
    if (!one.words) one.words = [one.id, one.reference, ...one.reports.map((r) => r.text)].join("\n").toLowerCase();
    return one.words;
  };

  const wanted = () => {
    const words = byId("case-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = byId("case-kind").value;
    const finding = byId("case-finding").value;
    const standing = byId("case-standing").value;
    return (one) =>
      (kind === "all" || (kind === "ct" ? Boolean(one.stack) : one.kind === kind)) &&
      ((!finding && !standing) ||
        one.found.some(([name, how]) => (!finding || name === finding) && (!standing || how === standing))) &&
      words.every((word) => haystack(one).includes(word));
  };

  const listCases = () => {
    state.shown = data.cases.filter(wanted()).sort(inOrder(ORDERS[byId("case-order").value]));
    const items = state.shown.map((one) =>
      make("li", null,
        make("a", { href: link(one.id), "data-case": one.id },
          make("span", { class: "name" }, one.id),
          one.stack ? make("span", { class: "chip" }, "CT") : null,
          make("span", { class: "figure-small " + (one.gain === null ? "" : verdict(one)) }, one.gain_text || one.score_text))));
    byId("case-list").replaceChildren(...items);
    byId("case-count").textContent = `${state.shown.length} of ${data.cases.length} cases`;
    markCurrent();
  };
  const verdict = (one) => (!one.gain ? "unclear" : better(one.gain) > 0 ? "better" : "worse");

  const markCurrent = () => {
    for (const anchor of byId("case-list").querySelectorAll("a")) {
      const here = state.current !== null && anchor.dataset.case === state.current.id;
      if (here) {
        anchor.setAttribute("aria-current", "true");
        const list = byId("case-list");
        const top = anchor.offsetTop - list.offsetTop;
        if (top < list.scrollTop || top > list.scrollTop + list.clientHeight - 40) list.scrollTop = top - 80;
      } else anchor.removeAttribute("aria-current");
    }
    const place = state.current ? state.shown.indexOf(state.current) : -1;
    byId("case-place").textContent = place < 0 ? "" : `${place + 1} of ${state.shown.length}`;
    byId("case-previous").disabled = place <= 0;
    byId("case-next").disabled = place === state.shown.length - 1 || !state.shown.length;
  };

  const step = (by) => {
    const place = state.current ? state.shown.indexOf(state.current) : -1;
    const next = state.shown[place < 0 ? 0 : place + by];
    if (!next) return;
    history.replaceState(null, "", link(next.id));
    show(next);
  };

  // ---- one case -----------------------------------------------------------------------------------------------
  const marked = (text, marks) => {
    // Marks count characters; a string of this language counts some of them twice.
    const signs = Array.from(text);
    const words = (from, to) => signs.slice(from, to).join("");
    const parts = [];
    let end = 0;
    for (const [from, to, kind, note] of marks) {
      parts.push(words(end, from));
      parts.push(make("mark", { class: kind, title: `${kind}: ${note}` },
        make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]), words(from, to),
        make("span", { class: "unseen" }, ` (${kind})`)));
      end = to;
    }
    parts.push(words(end));
    return parts.filter((part) => part !== "");
  };

  const reportCard = (report, place) => {
    const chosen = place === state.report;
    const title = report.role === "chosen" || report.role === "rejected" ? `${report.label}, ${report.role}` : report.label;
    return make("article", { class: `card ${report.role}${chosen ? " selected" : ""}` },
      make("h4", null, make("button", { type: "button", "data-report": place, "aria-pressed": String(chosen) },
        title, make("span", { class: "unseen" }, ": compare in the reference"))),
      report.scores.length
        ? make("dl", { class: "scores" }, ...report.scores.map(([name, value]) =>
          make("div", null, make("dt", null, name), make("dd", null, value))))
        : null,
      make("p", { class: "text" }, ...(report.text ? marked(report.text, report.marks) : ["An empty report."])),
      ...(report.why || []).map(([judge, words]) =>
        make("details", { class: "fold small" }, make("summary", null, `Why, says ${judge}`), make("p", { class: "why" }, words))));
  };

  const drawReference = () => {
    const one = state.current;
    const report = one.reports[state.report];
    byId("case-compared").textContent = report && one.reference ? `Compared with ${report.label.toLowerCase()}` : "";
    byId("case-reference").replaceChildren(
      ...(one.reference ? marked(one.reference, report ? report.reference_marks : []) : ["No reference report."]));
  };

  const drawReports = () => byId("case-reports").replaceChildren(...state.current.reports.map(reportCard));

  const compare = (place) => {
    if (!state.current || place < 0 || place >= state.current.reports.length) return;
    state.report = place;
    drawReports();
    drawReference();
  };

  const show = (one) => {
    const same = state.current === one;
    state.current = one;
    state.report = one.kind === "held-out" ? one.reports.length - 1 : 0;
    byId("case-title").textContent = one.id;
    const gain = one.gain_text
      ? `${one.gain_text} in ${data.metric}, last round minus base. `
      : one.kind === "held-out" ? `No ${data.metric || "score"} of both the base and the last round. ` : "";
    const kind = one.kind === "held-out" ? "Held-out case: no training stage has seen it." : `Candidates of ${one.round.toLowerCase()}.`;
    byId("case-note").textContent = gain + kind;
    drawReports();
    drawReference();
    if (!same) showStack(one);
    markCurrent();
    byId("case-unknown").hidden = true;
    byId("case-detail").hidden = false;
  };

  // ---- the CT -------------------------------------------------------------------------------------------------
  const hounsfield = new Float32Array(256);
  for (let grey = 0, part = 0; grey < 256; grey += 1) {
    while (grey > data.greys[part + 1]) part += 1;
    const share = (grey - data.greys[part]) / (data.greys[part + 1] - data.greys[part]);
    hounsfield[grey] = data.hounsfield[part] + share * (data.hounsfield[part + 1] - data.hounsfield[part]);
  }
  const canvas = byId("ct-canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });

  const showStack = async (one) => {
    state.image = null;
    byId("ct").hidden = !one.stack;
    byId("ct-none").hidden = Boolean(one.stack);
    byId("ct-none").textContent = one.note || "Shown by its texts alone.";
    canvas.dataset.drawn = "";
    if (!one.stack) return;
    const image = new Image();
    image.src = byId(`stack-${one.stack.at}`).textContent.trim();
    try {
      await image.decode();
    } catch {
      byId("ct").hidden = true;
      byId("ct-none").hidden = false;
      byId("ct-none").textContent = "This browser cannot decode the CT's picture.";
      return;
    }
    if (state.current !== one) return;
    state.image = image;
    canvas.width = one.stack.width;
    canvas.height = one.stack.height;
    const slider = byId("ct-slice");
    slider.max = one.stack.places.length - 1;
    toSlice(Math.floor(one.stack.places.length / 2));
  };

  const toSlice = (slice) => {
    if (!state.image) return;
    state.slice = Math.min(Math.max(slice, 0), state.current.stack.places.length - 1);
    drawSlice();
  };

  const drawSlice = () => {
    if (!state.image) return;
    const { width, height, places } = state.current.stack;
    context.drawImage(state.image, 0, state.slice * height, width, height, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    const low = state.centre - state.width / 2;
    const table = Uint8ClampedArray.from(hounsfield, (hu) => (255 * (hu - low)) / state.width);
    for (let at = 0; at < pixels.data.length; at += 4) {
      const value = table[pixels.data[at]];
      pixels.data[at] = pixels.data[at + 1] = pixels.data[at + 2] = value;
    }
    context.putImageData(pixels, 0, 0);
    const [first, last] = places[state.slice];
    const words = first === last ? `slice ${first}` : `slices ${first} to ${last}`;
    byId("ct-place").textContent = `${state.slice + 1} of ${places.length} from the head; ${words} of the CT`;
    byId("ct-slice").value = state.slice;
    byId("ct-slice").setAttribute("aria-valuetext", byId("ct-place").textContent);
    canvas.dataset.drawn = `${state.current.id}/${state.slice}`;
  };

  const setWindow = (centre, width) => {
    if (!Number.isFinite(centre) || !Number.isFinite(width)) return;
    state.centre = Math.round(Math.min(Math.max(centre, -1000), 2000));
    state.width = Math.round(Math.min(Math.max(width, 1), 3000));
    byId("ct-centre").value = state.centre;
    byId("ct-width").value = state.width;
    for (const button of document.querySelectorAll("[data-window]")) {
      const [c, w] = WINDOWS[button.dataset.window];
      button.setAttribute("aria-pressed", String(c === state.centre && w === state.width));
    }
    drawSlice();
  };

  canvas.addEventListener("wheel", (event) => {
    const next = state.slice + Math.sign(event.deltaY);
    // At either end the page scrolls on.
    if (event.ctrlKey || !state.image || next < 0 || next >= state.current.stack.places.length) return;
    event.preventDefault();
    toSlice(next);
  }, { passive: false });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons !== 1 || event.pointerType === "touch") return;
    setWindow(state.centre + event.movementY * 4, state.width + event.movementX * 6);
  });
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  byId("ct-slice").addEventListener("input", (event) => toSlice(Number(event.target.value)));
  for (const name of ["ct-centre", "ct-width"]) {
    byId(name).addEventListener("change", () => setWindow(byId("ct-centre").valueAsNumber, byId("ct-width").valueAsNumber));
  }
  for (const button of document.querySelectorAll("[data-window]")) {
    button.addEventListener("click", () => setWindow(...WINDOWS[button.dataset.window]));
  }

  // ---- keys, links, filters -----------------------------------------------------------------------------------
  const keys = {
    j: () => step(1), ArrowRight: () => step(1), k: () => step(-1), ArrowLeft: () => step(-1),
    "[": () => toSlice(state.slice - 1), "]": () => toSlice(state.slice + 1),
    "/": () => byId("case-search").focus(),
    "?": () => byId("keys").showModal(),
  };
  for (const [name, key] of Object.entries(SIDE)) keys[key] = () => setWindow(...WINDOWS[name]);

  // Elsewhere arrows scroll a wide table or select text, and a case would change out of sight.
  const stepsFrom = (target) =>
    target === document.body || (byId("cases").contains(target) && !target.closest(".scroll, pre"));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("keys").open) return;
    const target = event.target;
    if (target === byId("case-search") && event.key === "Escape") {
      // Else the browser empties the field.
      event.preventDefault();
      return target.blur();
    }
    // The slider keeps its own keys; letters still work on it.
    const slides = target === byId("ct-slice");
    if (slides ? event.key.startsWith("Arrow") : target.matches("input, select")) return;
    if (target === canvas && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      return toSlice(state.slice + (event.key === "ArrowDown" ? 1 : -1));
    }
    if (event.key.startsWith("Arrow") && (event.shiftKey || !stepsFrom(target))) return;
    if (!byId("keys-on").checked && event.key !== "?") return;
    const action = /^[1-9]$/.test(event.key) ? () => compare(Number(event.key) - 1) : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  const follow = () => {
    const name = /^#case=(.*)$/s.exec(location.hash);
    if (!name) return;
    let id = name[1];
    try {
      id = decodeURIComponent(id);
    } catch {
      // A hash that was not written by this page is taken as it stands.
    }
    const one = cases.get(id);
    if (one) {
      show(one);
      if (!state.shown.includes(one)) byId("case-place").textContent = "outside the filter";
    } else {
      byId("case-unknown").textContent = `No case ${id.slice(0, 100)} is on this page.`;
      byId("case-unknown").hidden = false;
    }
    // Of a link elsewhere on the page: the keys that follow are meant for the case.
    if (document.activeElement !== document.body && !byId("cases").contains(document.activeElement)) {
      byId("case-title").focus({ preventScroll: true });
    }
    byId("cases").scrollIntoView();
  };

  for (const name of ["case-search", "case-kind", "case-finding", "case-standing", "case-order"]) {
    byId(name).addEventListener(name === "case-search" ? "input" : "change", listCases);
  }
  byId("case-reset").addEventListener("click", () => {
    byId("case-filter").reset();
    listCases();
  });
  byId("case-filter").addEventListener("submit", (event) => event.preventDefault());
  byId("case-previous").addEventListener("click", () => step(-1));
  byId("case-next").addEventListener("click", () => step(1));
  byId("case-keys").addEventListener("click", () => byId("keys").showModal());
  byId("keys-close").addEventListener("click", () => byId("keys").close());
  byId("case-reports").addEventListener("click", (event) => {
    const button = event.target.closest("[data-report]");
    if (!button) return;
    compare(Number(button.dataset.report));
    byId("case-reports").querySelector(`[data-report="${state.report}"]`).focus();
  });
  window.addEventListener("hashchange", follow);

  const names = [...new Set(data.cases.flatMap((one) => one.found.map(([name]) => name)))].sort();
  byId("case-finding").append(...names.map((name) => make("option", { value: name }, name)));
  byId("browser").hidden = false;
  setWindow(...WINDOWS.lung);
  listCases();
  if (state.shown.length) show(state.shown[0]);
  follow();
})();
