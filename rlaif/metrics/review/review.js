
"use strict";

// A cell of CSV, never a formula to a spreadsheet.
function cellOf(text) {
  const guarded = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
  return /[",\r\n]/.test(guarded) ? '"' + guarded.replaceAll('"', '""') + '"' : guarded;
}

// The filled sheet: the columns and rows of the empty one, with what was answered.
function csvOf(sheet, given) {
  const rows = sheet.items.map((item) => {
    const own = given[item.id] || {};
    return [item.id, item.reference, ...item.texts, own.answer || "", (own.comment || "").trim()];
  });
  return [sheet.columns, ...rows].map((row) => row.map(cellOf).join(",") + "\r\n").join("");
}

// What the browser kept, as far as it fits this sheet.
function keptOf(text, sheet) {
  const given = {};
  let kept = null;
  try { kept = JSON.parse(text); } catch (error) { return given; }
  if (kept === null || typeof kept !== "object") return given;
  for (const item of sheet.items) {
    const own = Object.hasOwn(kept, item.id) ? kept[item.id] : null;
    if (own === null || typeof own !== "object") continue;
    given[item.id] = {
      answer: sheet.answers.includes(own.answer) ? own.answer : "",
      comment: typeof own.comment === "string" ? own.comment.slice(0, sheet.longest) : "",
    };
  }
  return given;
}

function start() {
  const at = (id) => document.getElementById(id);
  const sheet = JSON.parse(at("sheet").textContent);
  const name = "rlaif-review-" + sheet.keep;
  const buttons = [...document.querySelectorAll(".answer")];
  const tell = (words) => { at("trouble").textContent = words; at("trouble").hidden = !words; };
  let given = {};
  let place = 0;
  try {
    given = keptOf(localStorage.getItem(name) || "null", sheet);
  } catch (error) {
    tell("This browser keeps no answers for pages from disk: download them before you close the page.");
  }

  const answerOf = (item) => (given[item.id] || {}).answer || "";
  const firstOpen = (from) => {
    for (let step = 0; step < sheet.items.length; step += 1) {
      const number = (from + step) % sheet.items.length;
      if (!answerOf(sheet.items[number])) return number;
    }
    return -1;
  };

  function show() {
    const item = sheet.items[place];
    at("reference").textContent = item.reference;
    item.texts.forEach((text, side) => { at("text-" + side).textContent = text; });
    at("comment").value = (given[item.id] || {}).comment || "";
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.value === answerOf(item)));
    }
    at("previous").disabled = place === 0;
    at("next").disabled = place === sheet.items.length - 1;
    const done = sheet.items.filter(answerOf).length;
    at("open").disabled = done === sheet.items.length;
    at("progress").textContent = `${place + 1} of ${sheet.items.length}, ${done} answered`;
  }

  function keep(change) {
    const id = sheet.items[place].id;
    given[id] = { answer: "", comment: "", ...given[id], ...change };
    try {
      localStorage.setItem(name, JSON.stringify(given));
    } catch (error) {
      tell("This browser could not keep the answer: download the answers before you close the page.");
    }
  }

  function go(number) {
    if (number < 0 || number >= sheet.items.length) return;
    place = number;
    show();
    window.scrollTo(0, 0);
  }

  function answer(value) {
    keep({ answer: value });
    show();
  }

  function download() {
    const file = new Blob(["\ufeff", csvOf(sheet, given)], { type: "text/csv;charset=utf-8" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `${sheet.kind}-${sheet.rater}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function forget() {
    if (!window.confirm("Delete all answers of this sheet from this browser? Download them first.")) return;
    given = {};
    try { localStorage.removeItem(name); } catch (error) { /* Nothing was kept. */ }
    go(0);
  }

  for (const button of buttons) button.addEventListener("click", () => answer(button.dataset.value));
  at("previous").addEventListener("click", () => go(place - 1));
  at("next").addEventListener("click", () => go(place + 1));
  at("open").addEventListener("click", () => go(firstOpen(place + 1)));
  at("download").addEventListener("click", download);
  at("forget").addEventListener("click", forget);
  at("comment").addEventListener("input", () => keep({ comment: at("comment").value }));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target === at("comment")) {
      if (event.key === "Escape") at("comment").blur();
      return;
    }
    if (!at("keys-on").checked) return;
    const key = event.key.toLowerCase();
    const number = "12345".indexOf(key);
    if (number >= 0 && number < buttons.length) answer(buttons[number].dataset.value);
    else if (key === "0") answer("");
    else if (key === "arrowleft") go(place - 1);
    else if (key === "arrowright") go(place + 1);
    else if (key === "n") go(firstOpen(place + 1));
    else if (key === "c") { at("comment").focus(); event.preventDefault(); }
  });
  go(Math.max(0, firstOpen(0)));
}

if (typeof document !== "undefined") start();
