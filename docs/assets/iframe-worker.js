// Run a worker's script in a hidden iframe. Browsers refuse workers on pages opened from file://, and search needs one.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inner = frame.contentWindow
      const queue = []
      this.post = data => queue.push(data)
      inner.postMessage = data => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      }
      inner.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => load(each)), Promise.resolve())
      const load = each =>
        new Promise((done, failed) => {
          const script = inner.document.createElement("script")
          script.src = each
          script.onload = done
          script.onerror = failed
          inner.document.body.appendChild(script)
        })
      load(new URL(url, location).href).then(() => {
        this.post = data => inner.dispatchEvent(new MessageEvent("message", { data }))
        queue.forEach(this.post)
      })
    }
    postMessage(data) {
      this.post(data)
    }
    terminate() {}
  }
}
