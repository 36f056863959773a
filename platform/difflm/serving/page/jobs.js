// A job: asked how it is until it has ended, cancelled at the server when nobody wants it any more.

import { ask } from "./api.js";

const EVERY_MS = 1000;

/** The job once it has ended; `told` hears of it meanwhile. Aborting `signal` cancels it at the server. */
export async function endedJob(begun, { key, signal, told }) {
  let job = begun;
  try {
    while (job.state === "queued" || job.state === "running") {
      told(job);
      await pause(signal);
      job = await (await ask(`v1/jobs/${job.id}`, { key, signal })).json();
    }
  } catch (error) {
    if (error.name === "AbortError") await ask(`v1/jobs/${job.id}`, { key, method: "DELETE" });
    throw error;
  }
  return job;
}

function pause(signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, EVERY_MS);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
