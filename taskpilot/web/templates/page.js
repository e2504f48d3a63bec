// Times in the viewer's zone, and pages that follow the record. Without this script everything else works.
const zoned = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });

function localTimes(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    one.title = one.textContent;
    one.textContent = zoned.format(new Date(one.dateTime));
  }
}

// A section in which a person types or chooses stays as it is.
function isBusy(section) {
  if (section.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return true;
  return [...section.querySelectorAll("input, select, textarea")].some((one) =>
    one.type === "checkbox" ? one.checked !== one.defaultChecked : one.tagName !== "SELECT" && one.value !== one.defaultValue);
}

function replaceSection(section, fresh) {
  const open = [...section.querySelectorAll("details[open][id]")].map((one) => one.id);
  const focused = section.contains(document.activeElement) ? focusPlace(section) : -1;
  for (const id of open) fresh.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
  section.replaceWith(fresh);
  if (focused >= 0) focusable(fresh)[focused]?.focus({ preventScroll: true });
}

const focusable = (root) => [...root.querySelectorAll("a[href], button, summary, [tabindex]")];
const focusPlace = (section) => focusable(section).indexOf(document.activeElement);

// The key of a form is another one each time.
const sourceOf = (section) => section.innerHTML.replace(/name="key" value="[^"]*"/g, "");
const sources = new Map([...document.querySelectorAll("section[id]")].map((one) => [one.id, sourceOf(one)]));

async function update() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Live": "1" }, cache: "no-store" });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const ours = new Set([...document.querySelectorAll("main section[id]")].map((one) => one.id));
  const theirs = [...page.querySelectorAll("main section[id]")];
  for (const gone of [...ours].filter((id) => !page.getElementById(id))) document.getElementById(gone).remove();
  let before = null;
  for (const fresh of theirs) {
    const old = document.getElementById(fresh.id);
    const source = sourceOf(fresh);
    if (!old) {
      const added = document.adoptNode(fresh);
      localTimes(added);
      if (before) before.after(added); else document.querySelector("main").append(added);
    } else if (sources.get(fresh.id) !== source && !isBusy(old)) {
      const next = document.adoptNode(fresh);
      localTimes(next);
      replaceSection(old, next);
    } else {
      before = document.getElementById(fresh.id);
      continue;
    }
    sources.set(fresh.id, source);
    before = document.getElementById(fresh.id);
  }
}

let stale = false;
let running = false;
async function follow() {
  stale = true;
  if (running || document.hidden) return;
  running = true;
  while (stale && !document.hidden) {
    stale = false;
    try { await update(); } catch { stale = false; }
    await new Promise((done) => setTimeout(done, 1500));
  }
  running = false;
}

localTimes(document);
const live = document.getElementById("live");
if (document.querySelector("main section[id]")) {
  const events = new EventSource("/events");
  events.addEventListener("open", () => { live.textContent = "live"; });
  events.addEventListener("error", () => { live.textContent = "not connected"; });
  events.addEventListener("change", follow);
  document.addEventListener("visibilitychange", () => { if (stale) follow(); });
}
