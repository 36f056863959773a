// The page: loads a bundle's facts, draws rows as a stream, and keeps what is shown in step with the form.

import { ApiProblem, ask, streamedRows } from "./api.js";
import { columnsOf, showColumns } from "./columns.js";
import { showAtColumn, showConditions, whereOf } from "./conditions.js";
import { talliesOf } from "./distributions.js";
import { endedJob } from "./jobs.js";
import { bodyOf, curlOf, pythonOf } from "./requests.js";
import { MAX_SHOWN, Rows, download } from "./rows.js";
import { showVerdict } from "./verdict.js";

const $ = (id) => document.getElementById(id);
const state = { bundles: [], schema: null, pictures: new Map(), tallies: [], drawing: null, seed: null, warm: false, job: null };
const rows = new Rows($("head"), $("body"));
const key = () => $("key").value.trim();

function request() {
  return {
    n: $("n").value.trim(),
    bundle: state.bundles.length > 1 ? $("bundle").value : null,
    seed: $("seed").value.trim(),
    temperature: state.warm ? $("temperature").value : null,
    where: whereOf($("conditions")),
    columns: columnsOf($("columns")),
  };
}

function showForm() {
  const url = new URL(".", document.baseURI).href;
  $("temperature-shown").textContent = state.warm ? Number($("temperature").value).toFixed(2) : "the server's";
  const wanted = request();
  $("columns-shown").textContent = wanted.columns === null ? "all" : `${wanted.columns.length} chosen`;
  $("curl").textContent = curlOf(wanted, url, key() !== "");
  $("python").textContent = pythonOf(wanted, url, key() !== "");
}

function clearErrors() {
  for (const place of document.querySelectorAll(".error")) place.textContent = "";
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Say what is wrong beside the field that is meant. */
function showProblem(error) {
  if (!(error instanceof ApiProblem)) throw error;
  say(`Failed: ${error.message}`);
  if (error.field === "authorization") $("key-details").open = true;
  if (error.field === "columns") $("columns-details").open = true;
  const place = $(`${error.field}-error`);
  if (place === null) {
    $("error").textContent = error.field === null ? error.message : `${error.field}: ${error.message}`;
    return;
  }
  if (error.field !== "where" || !showAtColumn($("conditions"), error.message)) place.textContent = error.message;
  const input = error.field === "authorization" ? $("key") : $(error.field);
  if ("value" in input) input.setAttribute("aria-invalid", "true");
  if ("focus" in input) input.focus();
}

function say(text) {
  $("status").textContent = text;
}

async function loadBundles() {
  clearErrors();
  try {
    const { bundles } = await (await ask("v1/bundles", { key: key() })).json();
    state.bundles = bundles;
    $("bundle").replaceChildren(...bundles.map(({ bundle }) => new Option(bundle, bundle)));
    await loadBundle();
  } catch (error) {
    showProblem(error);
  }
}

async function loadBundle() {
  const name = $("bundle").value;
  clearErrors();
  state.drawing?.abort();
  $("draw").disabled = true;
  try {
    const about = `?bundle=${encodeURIComponent(name)}`;
    const found = await (await ask(`v1/schema${about}`, { key: key() })).json();
    const quality = await qualityOf(about);
    if ($("bundle").value !== name) return;
    showSoundly(found, quality);
  } catch (error) {
    showProblem(error);
    if (error.status === 503) setTimeout(() => $("bundle").value === name && loadBundle(), 2000);
  }
}

/** The evaluation's verdict, and by column the pictures of its marginals; neither where there is no evaluation. */
async function qualityOf(about) {
  try {
    const { report } = await (await ask(`v1/quality${about}`, { key: key() })).json();
    const marginals = (report.evaluations ?? []).find((one) => one?.name === "marginals");
    const pictures = new Map((marginals?.details?.columns ?? []).map(({ name, picture }) => [name, picture]));
    return { verdict: report.verdict ?? null, pictures };
  } catch (error) {
    if (error.status === 404 || error instanceof TypeError) return noEvaluation();
    throw error;
  }
}

function noEvaluation() {
  return { verdict: null, pictures: new Map() };
}

/** An evaluation comes with the bundle of whoever made it, and may be of any form: the rows can be drawn all the same. */
function showSoundly(found, quality) {
  try {
    showBundle(found, quality);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    showBundle(found, noEvaluation());
  }
}

function showBundle(found, { verdict, pictures }) {
  state.schema = found.schema;
  state.pictures = pictures;
  showVerdict($("verdict-section"), $("verdict"), verdict);
  $("bundle-facts").textContent = `version ${found.version}, ${found.schema.fields.length} columns`;
  $("quality").textContent = state.pictures.size
    ? "Real shares are those of all training rows, also where a condition is set."
    : "This bundle came without an evaluation: there are no real shares to compare with.";
  showConditions($("conditions"), found.schema.fields);
  showColumns($("columns"), found.schema.fields);
  clearRows(null);
  showForm();
  $("draw").disabled = false;
  say("Ready.");
}

function clearRows(columns) {
  const fields = state.schema.fields.filter(({ name }) => columns === null || columns.includes(name));
  rows.clear(fields.map(({ name }) => name));
  state.tallies = talliesOf(fields, state.pictures);
  state.job = null;
  $("job-data").hidden = true;
  showRows(0);
}

let frame = null;
let wantedRows = 0;

/** Redraw once per frame, however many chunks come. */
function showRows(wanted) {
  wantedRows = wanted;
  frame ??= requestAnimationFrame(() => {
    frame = null;
    const [count, shown] = [rows.kept.length, rows.kept.length.toLocaleString("en")];
    $("progress").max = wantedRows || 1;
    $("progress").value = count;
    $("count").textContent = wantedRows ? `${shown} of ${wantedRows.toLocaleString("en")} rows` : "No rows yet";
    const more = count > MAX_SHOWN;
    $("shown").textContent = more ? `The first ${MAX_SHOWN} of ${shown} rows; downloads hold all.` : "";
    $("csv").disabled = $("json").disabled = count === 0;
    $("distributions").replaceChildren(...state.tallies.map((tally) => tally.chart()));
  });
}

async function draw(event) {
  event.preventDefault();
  if (state.drawing !== null || state.schema === null) return;
  clearErrors();
  const [wanted, stopper, began] = [request(), new AbortController(), performance.now()];
  setDrawing(stopper);
  say("Drawing.");
  try {
    const answer = await ask("v1/samples", { key: key(), body: bodyOf(wanted), signal: stopper.signal });
    if (answer.status === 202) {
      await followJob(await answer.json(), stopper.signal);
      return;
    }
    state.seed = answer.headers.get("X-Difflm-Seed");
    $("keep-seed").disabled = false;
    clearRows(wanted.columns);
    if (matchMedia("(max-width: 60rem)").matches) $("results").scrollIntoView(); // there they lie below the form
    for await (const chunk of streamedRows(answer)) take(chunk, Number(wanted.n));
    showRows(Number(wanted.n));
    say(finished(Number(wanted.n), (performance.now() - began) / 1000));
  } catch (error) {
    if (error.name === "AbortError") say(stopped());
    else if (error instanceof TypeError) showProblem(new ApiProblem(0, { message: "the stream broke", field: null }));
    else showProblem(error);
  } finally {
    setDrawing(null);
  }
}

/** More rows than one answer holds: they are made as a file, and the page says how far it is. */
async function followJob(begun, signal) {
  clearRows(null);
  state.job = begun;
  const told = ({ state: how, n, rows_done: done }) => {
    [$("progress").max, $("progress").value] = [n, done];
    $("count").textContent = `${done.toLocaleString("en")} of ${n.toLocaleString("en")} rows`;
    say(`So many rows are a job, which is ${how}. Stop cancels it.`);
  };
  const job = await endedJob(begun, { key: key(), signal, told });
  told(job);
  if (job.state === "failed") throw new ApiProblem(200, { message: `the job failed: ${job.error}`, field: null });
  state.job = job;
  $("job-data").hidden = false;
  say(`Finished: ${job.n} rows as a file, seed ${job.seed}.`);
}

function stopped() {
  if (state.job !== null) return "The job is cancelled.";
  return `Stopped after ${rows.kept.length} rows, seed ${state.seed ?? "unknown"}.`;
}

async function saveJob() {
  try {
    const answer = await ask(`v1/jobs/${state.job.id}/data`, { key: key() });
    download("rows.jsonl", await answer.blob(), answer.headers.get("Content-Type"));
  } catch (error) {
    showProblem(error);
  }
}

function take(chunk, wanted) {
  rows.add(chunk);
  for (const tally of state.tallies) for (const { cells } of chunk) tally.count(cells[tally.name]);
  showRows(wanted);
}

function finished(wanted, seconds) {
  const lacking = wanted - rows.kept.length;
  const lost = lacking > 0 ? ` ${lacking} had no valid draw and are left out.` : "";
  return `Finished: ${rows.kept.length} rows in ${seconds.toFixed(1)} s, seed ${state.seed}.${lost}`;
}

/** Between drawing and not, keyboard focus stays on the button in the same place. */
function setDrawing(stopper) {
  const [shown, other] = stopper ? [$("stop"), $("draw")] : [$("draw"), $("stop")];
  state.drawing = stopper;
  shown.hidden = false;
  if (document.activeElement === other) shown.focus();
  other.hidden = true;
  $("results").setAttribute("aria-busy", String(stopper !== null));
}

async function copy(id, what) {
  const text = $(id).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren($(id)); // without HTTPS browsers only let a selection be copied
    document.execCommand("copy");
  }
  say(`Copied the ${what}.`);
}

const roundRows = (place) => {
  const exact = 10 ** (place / 10);
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(exact)) - 1);
  return String(Math.round(exact / unit) * unit);
};

$("form").addEventListener("submit", draw);
$("form").addEventListener("input", showForm);
$("form").addEventListener("reset", () => {
  state.warm = false;
  clearErrors();
  const kept = [$("bundle").value, $("key").value];
  setTimeout(() => {
    [$("bundle").value, $("key").value] = kept;
    showForm();
  });
});
$("stop").addEventListener("click", () => state.drawing?.abort());
$("bundle").addEventListener("change", loadBundle);
$("use-key").addEventListener("click", loadBundles);
$("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  loadBundles();
});
$("n-slider").addEventListener("input", () => ($("n").value = roundRows(Number($("n-slider").value))));
$("n").addEventListener("input", () => {
  const count = Number($("n").value);
  if (count >= 1) $("n-slider").value = 10 * Math.log10(count);
});
$("temperature").addEventListener("input", () => (state.warm = true));
$("keep-seed").addEventListener("click", () => {
  $("seed").value = state.seed;
  showForm();
});
$("csv").addEventListener("click", () => download("rows.csv", rows.csv, "text/csv;charset=utf-8"));
$("json").addEventListener("click", () => download("rows.json", rows.json, "application/json"));
$("job-data").addEventListener("click", saveJob);
$("copy-curl").addEventListener("click", () => copy("curl", "curl command"));
$("copy-python").addEventListener("click", () => copy("python", "Python code"));
loadBundles();
