// Sends COUNT requests to URL, reads from the answers how it stands, waits as it
// is told, and says how that went.
//
//   node client.js URL FIELDS MANNER COUNT
import { parseRateLimit } from "ratelimit-header-parser";
import { parseList } from "structured-headers";

const [url, fields, manner, count] = process.argv.slice(2);

const require = (what, holds) => {
  if (!holds) throw new Error(`the answer has no ${what}`);
};

// Each reader returns how many requests are left, and for how many milliseconds.
const readers = {
  // The fields of the current draft, which are lists of structured fields.
  current(headers) {
    const quotas = new Map(parseList(headers.get("ratelimit-policy")).map(([name, parameters]) => [name, parameters]));
    let tightest;
    for (const [name, parameters] of parseList(headers.get("ratelimit"))) {
      const [r, t] = [parameters.get("r"), parameters.get("t")];
      require("integers r and t", Number.isInteger(r) && Number.isInteger(t));
      require(`policy ${name}`, quotas.has(name));
      require("quota above what is left", r <= quotas.get(name).get("q"));
      names.add(name);
      if (!tightest || r < tightest.left) tightest = { left: r, wait: t * 1000 };
    }
    return tightest;
  },
  // The fields of older drafts, and those of before.
  older: (headers) => older(headers, "seconds"),
  unix: (headers) => older(headers, "unix"),
};

function older(headers, reset) {
  const parsed = parseRateLimit(headers, { reset });
  require("limit above what is left", parsed?.remaining <= parsed?.limit);
  return { left: parsed.remaining, wait: parsed.reset - Date.now() };
}

// A timer may be a millisecond early.
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms + 1));

const names = new Set();
let ok = 0;
let refused = 0;

// send repeats a request until it is admitted.
async function send() {
  for (;;) {
    const response = await fetch(url);
    await response.text();
    const standing = readers[fields](response.headers);
    require("time to wait", standing && standing.wait >= 0 - (fields === "unix" ? 1000 : 0));
    if (response.status === 200) {
      ok++;
      return standing;
    }
    require("status that is expected: " + response.status, response.status === 429);
    require("Retry-After as late as the fields", Math.ceil(standing.wait / 1000) <= Number(response.headers.get("retry-after")));
    refused++;
    await sleep(standing.wait);
  }
}

if (manner === "eager") {
  await Promise.all(Array.from({ length: count }, send));
} else {
  for (let i = 0; i < count; i++) {
    const standing = await send();
    if (standing.left === 0) await sleep(standing.wait);
  }
}
console.log(JSON.stringify({ ok, refused, names: [...names] }));
