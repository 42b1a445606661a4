// Asks the service. What goes wrong is an Error in the service's own words.

// The service is not there; it may come back.
export class NoAnswer extends Error {}

const TOKEN = "latewood.token";
let entering = null;

export async function ask(path, body, signal) {
  const headers = { accept: "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new NoAnswer("The service does not answer. Is it still running?");
  }
  if (answer.status === 401) {
    await enterToken();
    return ask(path, body, signal);
  }
  const told = read(await answer.text());
  if (!answer.ok) throw new Error(told.detail ?? `The service answered ${answer.status}.`);
  return told;
}

export const isWhole = (text) => /^[+-]?\d+$/.test(text);

// A script's own numbers end at 2^53; whole ones beyond become a BigInt. What is no JSON tells nothing.
function read(text) {
  try {
    return JSON.parse(text, (_, value, context) => (
      typeof value === "number" && !Number.isSafeInteger(value) && isWhole(context?.source) ? BigInt(context.source) : value));
  } catch {
    return {};
  }
}

// Several requests may be refused at once; the reader is asked once.
function enterToken() {
  entering ??= new Promise((resolve) => {
    const dialog = document.getElementById("enter");
    dialog.addEventListener("close", () => {
      const token = document.getElementById("token");
      // No header could carry it; the reader is asked again.
      if (token.validity.valid) sessionStorage.setItem(TOKEN, token.value.trim());
      entering = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return entering;
}
