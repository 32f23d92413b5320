/** One person's connection to the farm's broker: opened, kept, and the topics that are needed now. */

import { signal } from "@preact/signals";
import mqtt, { type IClientPublishOptions, type MqttClient } from "mqtt";
import { brokerReason, closeReason, pause, refusal } from "./reasons";

/** Whether the broker can be heard. `since` is in this machine's milliseconds. */
export type Link =
  | { phase: "off" }
  | { phase: "connecting"; since: number }
  | { phase: "online"; since: number }
  | { phase: "lost"; since: number; why: string };

export interface Listener {
  /** A message on a topic relative to the root. */
  onMessage(topic: string, payload: Uint8Array, retained: boolean): void;
  /** These filters are subscribed to anew: what is retained there comes now. */
  onSubscribed(filters: string[]): void;
  /** The broker does not take the account. The connection is off. */
  onRefused(why: string): void;
}

/** Milliseconds without a word from the broker until it is asked, and until it counts as gone. */
const ASK_AFTER = 6_000;
const GONE_AFTER = 12_000;
const CONNECT_TIMEOUT = 10_000;

/** Seconds. Browsers let hidden pages act once a minute only. */
const KEEP_ALIVE = 60;

/** Milliseconds that a subscription stays after its last view: people go back and forth. */
const LINGER = 10_000;

/** Messages that may be under way to us at once. */
const RECEIVE_MAXIMUM = 2000;

type PublishOptions = NonNullable<IClientPublishOptions["properties"]>;

interface Need {
  qos: 0 | 1;
  users: number;
  leaving: ReturnType<typeof setTimeout> | null;
}

export class Connection {
  readonly link = signal<Link>({ phase: "off" });
  readonly clientId: string;
  private readonly needs = new Map<string, Need>();
  private readonly muted = new Map<string, ReturnType<typeof setTimeout>>();
  private client: MqttClient | null = null;
  private retry: ReturnType<typeof setTimeout> | null = null;
  private watch: ReturnType<typeof setInterval> | null = null;
  private attempt = 0;
  private heardAt = 0;
  private why = "";

  constructor(
    readonly url: string,
    private readonly root: string,
    readonly user: string,
    private readonly password: string,
    private readonly listener: Listener,
  ) {
    this.clientId = `${user.slice(0, 20)}-web-${randomId()}`;
  }

  open(): void {
    this.link.value = { phase: "connecting", since: Date.now() };
    this.watch = setInterval(() => this.listenForSilence(), 2000);
    document.addEventListener("visibilitychange", this.onVisible);
    window.addEventListener("online", this.onVisible);
    this.connect();
  }

  close(): void {
    document.removeEventListener("visibilitychange", this.onVisible);
    window.removeEventListener("online", this.onVisible);
    if (this.retry !== null) clearTimeout(this.retry);
    if (this.watch !== null) clearInterval(this.watch);
    for (const { leaving } of this.needs.values()) if (leaving !== null) clearTimeout(leaving);
    for (const ending of this.muted.values()) clearTimeout(ending);
    this.needs.clear();
    this.muted.clear();
    const client = this.client;
    this.client = null;
    this.link.value = { phase: "off" };
    client?.end(true);
  }

  /** Subscribe to a filter until the function that is returned has been called. */
  need(filter: string, qos: 0 | 1): () => void {
    const known = this.needs.get(filter);
    if (known !== undefined) {
      known.users += 1;
      if (known.leaving !== null) clearTimeout(known.leaving);
      known.leaving = null;
    } else {
      this.needs.set(filter, { qos, users: 1, leaving: null });
      this.subscribe([filter]);
    }
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.release(filter);
    };
  }

  /** Not be sent what comes on a filter for so many milliseconds, though it is needed. */
  mute(filter: string, milliseconds: number): void {
    if (this.muted.has(filter) || !this.needs.has(filter)) return;
    const ending = setTimeout(() => {
      this.muted.delete(filter);
      if (this.needs.has(filter)) this.subscribe([filter]);
    }, milliseconds);
    this.muted.set(filter, ending);
    this.client?.unsubscribe(`${this.root}/${filter}`);
  }

  /** Publish with quality of service 1. Rejects with the broker's reason code, or when it is away. */
  publish(topic: string, payload: string, properties: PublishProperties): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.client === null || this.link.value.phase !== "online") {
        reject(new Error("the broker is away"));
        return;
      }
      this.client.publish(
        `${this.root}/${topic}`,
        payload,
        // Its types ask for Node's Buffer, which any bytes do for.
        { qos: 1, properties: { ...properties } as unknown as PublishOptions },
        (error) => (error ? reject(error) : resolve()),
      );
    });
  }

  /** A topic with the root before it, for others to answer on. */
  absolute(topic: string): string {
    return `${this.root}/${topic}`;
  }

  private connect(): void {
    this.retry = null;
    this.why = "";
    const client = mqtt.connect(this.url, {
      protocolVersion: 5,
      clientId: this.clientId,
      username: this.user,
      password: this.password,
      clean: true,
      keepalive: KEEP_ALIVE,
      reconnectPeriod: 0,
      connectTimeout: CONNECT_TIMEOUT,
      resubscribe: false,
      queueQoSZero: false,
      // The others would be run by a worker from a blob, which the page's CSP forbids.
      timerVariant: "native",
      properties: { sessionExpiryInterval: 0, receiveMaximum: RECEIVE_MAXIMUM },
      createWebsocket: (url, protocols) => this.openSocket(url, protocols),
    });
    this.client = client;
    client.on("connect", () => this.current(client) && this.onConnected());
    client.on("message", (topic, payload, packet) => {
      if (!this.current(client) || !topic.startsWith(`${this.root}/`)) return;
      this.listener.onMessage(topic.slice(this.root.length + 1), payload, packet.retain);
    });
    client.on("packetreceive", () => {
      this.heardAt = Date.now();
    });
    client.on("disconnect", (packet) => {
      if (packet.reasonCode) this.why = brokerReason(packet.reasonCode);
    });
    client.on("error", (error) => {
      if (!this.current(client)) return;
      const code = "code" in error && typeof error.code === "number" ? error.code : undefined;
      const refused = refusal(code);
      if (refused !== null) {
        this.close();
        this.listener.onRefused(refused);
      } else if (this.why === "") {
        this.why = code === undefined ? error.message : brokerReason(code);
      }
    });
    client.on("close", () => this.current(client) && this.onClosed());
  }

  private openSocket(url: string, protocols: string[]): WebSocket {
    const socket = new WebSocket(url, protocols);
    // mqtt.js listens too, but keeps to itself how a socket was closed.
    socket.addEventListener("close", (event) => {
      if (this.why === "") this.why = closeReason(event.code, event.reason);
    });
    return socket;
  }

  private current(client: MqttClient): boolean {
    return this.client === client;
  }

  private onConnected(): void {
    this.attempt = 0;
    this.heardAt = Date.now();
    this.link.value = { phase: "online", since: Date.now() };
    this.subscribe([...this.needs.keys()]);
  }

  private onClosed(): void {
    const before = this.link.value;
    this.client?.end(true);
    this.client = null;
    const why = this.why || "no answer";
    if (before.phase === "lost") this.link.value = { ...before, why };
    else if (before.phase === "connecting") {
      this.link.value = { phase: "lost", since: before.since, why };
    } else this.link.value = { phase: "lost", since: Date.now(), why };
    this.attempt += 1;
    this.retry = setTimeout(() => this.connect(), pause(this.attempt));
  }

  /** A broker that hangs closes nothing: what it is asked shows whether it is there. */
  private listenForSilence(): void {
    if (this.link.value.phase !== "online" || document.hidden || this.client === null) return;
    const silent = Date.now() - this.heardAt;
    if (silent > GONE_AFTER) {
      this.why = `nothing heard for ${Math.round(silent / 1000)} s`;
      const client = this.client;
      this.onClosed();
      client.end(true);
    } else if (silent > ASK_AFTER) this.client.sendPing();
  }

  private readonly onVisible = (): void => {
    if (document.hidden || this.retry === null) return;
    clearTimeout(this.retry);
    this.connect();
  };

  private subscribe(needed: string[]): void {
    const client = this.client;
    const filters = needed.filter((filter) => !this.muted.has(filter));
    if (client === null || this.link.value.phase !== "online" || filters.length === 0) return;
    const wanted = Object.fromEntries(
      filters.map((filter) => [
        `${this.root}/${filter}`,
        { qos: this.needs.get(filter)?.qos ?? (1 as const) },
      ]),
    );
    this.listener.onSubscribed(filters);
    client.subscribe(wanted, (error) => {
      // A filter that is refused leaves its view empty; the connection is none the worse for it.
      if (error) console.warn("not subscribed:", filters.join(", "), error.message);
    });
  }

  private release(filter: string): void {
    const known = this.needs.get(filter);
    if (known === undefined) return;
    known.users -= 1;
    if (known.users > 0) return;
    known.leaving = setTimeout(() => {
      this.needs.delete(filter);
      if (this.link.value.phase === "online") this.client?.unsubscribe(`${this.root}/${filter}`);
    }, LINGER);
  }
}

export interface PublishProperties {
  responseTopic: string;
  correlationData: Uint8Array;
  messageExpiryInterval: number;
  contentType: string;
}

/** 64 random bits as text that may stand in a topic. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
