// Requests to the server. Errors become sentences; a busy server is asked again.

const TRIES = 6;

export async function request(path, options = {}) {
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is unheard serve still running?");
    }
    if (response.ok) return response;
    if (response.status === 503 && attempt < TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      continue;
    }
    const body = await response.json().catch(() => ({}));
    const failure = new Error(sentence(body.detail || `The server answered ${response.status}.`));
    failure.status = response.status;
    throw failure;
  }
}

export const get = async (path) => (await request(path)).json();

export const post = async (path, body, options = {}) => (await request(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...options,
})).json();

export const postForBlob = async (path, body) => (await request(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
})).blob();

export async function upload(name, content) {
  const response = await request(`/api/sounds?name=${encodeURIComponent(name.slice(0, 150))}`, {
    method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: content,
  });
  return response.json();
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
