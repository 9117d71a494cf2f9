const WAIT = 2_000;
const MOST_KEPT = 100;

/** Collects things in the browser and sends them to `address` soon, many in one request. */
export class Batch<Thing> {
  readonly #address: string;
  readonly #name: string;
  #queue: Thing[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending: Promise<void> = Promise.resolve();

  /** The body of a request is an object with the things under `name`. */
  constructor(address: string, name: string) {
    this.#address = address;
    this.#name = name;
  }

  add(thing: Thing): void {
    this.#queue.push(thing);
    this.#timer ??= setTimeout(() => void this.flush(), WAIT);
  }

  /** Forgets the things that are not sent yet and meet a condition. */
  drop(condition: (thing: Thing) => boolean): void {
    this.#queue = this.#queue.filter((thing) => !condition(thing));
  }

  /** Sends the queue and waits until it is recorded. After a failure it stays. */
  flush(): Promise<void> {
    this.#sending = this.#sending.then(() => this.#send());
    return this.#sending;
  }

  async #send(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const things = this.#queue.splice(0, MOST_KEPT);
    if (things.length === 0) return;
    try {
      const response = await fetch(this.#address, {
        method: "POST",
        keepalive: true,
        headers: { "content-type": "application/json" },
        body: this.#write(things),
      });
      if (response.status >= 500) throw new Error("not recorded");
    } catch {
      this.#queue = [...things, ...this.#queue].slice(0, MOST_KEPT);
    }
    if (this.#queue.length > 0) this.#timer ??= setTimeout(() => void this.flush(), WAIT);
  }

  /** Passes the queue to the browser, which sends it even while the page closes. */
  flushAtEnd(): void {
    const things = this.#queue.splice(0, MOST_KEPT);
    if (things.length === 0) return;
    const body = new Blob([this.#write(things)], { type: "application/json" });
    if (!navigator.sendBeacon(this.#address, body)) this.#queue.unshift(...things);
  }

  #write(things: Thing[]): string {
    return JSON.stringify({ [this.#name]: things });
  }
}
