// Brings the page up to date while somebody looks: asks for it again every second, and changes only what differs, so that
// focus, scroll position, what is open and what is typed stay. Says so when the stream does not answer. Without this script
// the page is the same and is brought up to date by loading it again.
"use strict";

// From one answer to the next question.
const EVERY_MS = 1000;
// How long an answer may take: with the pause before it less than the five seconds after which old figures must be marked.
const PATIENCE_MS = 3000;

const stale = document.getElementById("stale");
const address = () => document.body.dataset.refresh || location.href;
let heard = clock();
let paused = false;
let timer = 0;
let running = false;

function clock() {
  return document.getElementById("clock")?.textContent ?? "";
}

async function refresh() {
  clearTimeout(timer);
  if (running || paused || document.hidden) return;
  running = true;
  try {
    const answer = await fetch(address(), { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    heard = clock();
    say("");
  } catch (error) {
    say(`The stream does not answer. What you see is from ${heard}. It is asked again every second.`);
  }
  running = false;
  if (!paused && !document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

function say(text) {
  // An alert is read out whenever it changes, so it changes only when there is something new.
  if (stale.textContent !== text) stale.textContent = text;
  stale.hidden = text === "";
  document.documentElement.classList.toggle("stale", text !== "");
}

function show(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = old.id && fresh.getElementById(old.id);
    if (now) morph(old, now);
  }
  offerPause();
}

// Makes an element like another, keeping what is equal.
function morph(old, now) {
  attributes(old, now);
  let at = old.firstChild;
  for (const wanted of [...now.childNodes]) {
    const next = at?.nextSibling ?? null;
    if (!at) {
      old.append(document.importNode(wanted, true));
    } else if (at.nodeName !== wanted.nodeName || (at.id ?? "") !== (wanted.id ?? "")) {
      at.replaceWith(document.importNode(wanted, true));
    } else if (at.nodeType === Node.ELEMENT_NODE) {
      morph(at, wanted);
    } else if (at.data !== wanted.data) {
      at.data = wanted.data;
    }
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function attributes(old, now) {
  // Whether something is open, and a button that the script looks after, are the reader's.
  if (old.id === "pause") return;
  const own = old.nodeName === "DETAILS" ? ["open"] : [];
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name) && !own.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...now.attributes]) {
    if (old.getAttribute(name) !== value && !own.includes(name)) old.setAttribute(name, value);
  }
}

function offerPause() {
  const button = document.getElementById("pause");
  if (!button) return;
  button.hidden = false;
  const text = paused ? "Resume" : "Pause";
  if (button.textContent !== text) button.textContent = text;
}

document.addEventListener("click", (event) => {
  if (event.target.id === "pause") {
    paused = !paused;
    offerPause();
    refresh();
  }
});

// One explanation is open at a time; Escape closes it, and so does a click elsewhere.
function closeExplanations(except) {
  for (const open of document.querySelectorAll("details.about[open]")) {
    if (open !== except) open.open = false;
  }
}
document.addEventListener("click", (event) => closeExplanations(event.target.closest?.("details.about")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector("details.about[open]");
  closeExplanations(null);
  open?.querySelector("summary").focus();
});

document.addEventListener("visibilitychange", refresh);
offerPause();
timer = setTimeout(refresh, EVERY_MS);
