// One place for errors: the line under the header.

const line = document.getElementById("message");

export function showError(error) {
  if (error.name === "AbortError") return;
  line.textContent = error.message;
  line.hidden = false;
}

export function clearError() {
  line.hidden = true;
}

// Run an action of the user; an error is shown, the next success removes it.
export async function attempt(action) {
  try {
    const result = await action();
    clearError();
    return result;
  } catch (error) {
    showError(error);
    return undefined;
  }
}
