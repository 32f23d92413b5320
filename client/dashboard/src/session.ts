/** Somebody who is signed in: the connection, what is known of the farm, and what may be done. */

import { batch, type Signal, signal } from "@preact/signals";
import { Connection } from "./bus/connection";
import { Account, type Credentials, type FarmDocument } from "./bus/messages";
import { FarmError, Requests } from "./bus/requests";
import * as t from "./bus/topics";
import { Experiment } from "./farm/experiment";
import { BATCH_EVERY, Inbox } from "./farm/feed";
import { QueueStatuses } from "./farm/queue_status";
import { apply, emptyState, type FarmState, type Message, type Part } from "./farm/state";

export type Role = "observer" | "user" | "admin";

/** Milliseconds for which lines are not read as they come, once a log has come in a flood. */
const MUTED = 60_000;

const PARTS: readonly Part[] = [
  "control",
  "workers",
  "boards",
  "reservations",
  "claims",
  "experiments",
  "history",
  "throughput",
  "happenings",
  "logs",
  "principals",
  "unreadable",
];

export class Session {
  readonly state = emptyState();
  readonly experiment = new Experiment();
  readonly experimentChanged = signal(0);
  readonly connection: Connection;
  readonly requests: Requests;
  readonly statuses: QueueStatuses;
  readonly user: string;
  readonly wall: boolean;
  /** What its user may do; null while that is not known. */
  readonly role = signal<Role | null>(null);
  /** Whose log came in a flood, and until when no lines are read as they come. */
  readonly logFlood = signal<{ of: string; until: number } | null>(null);
  readonly account = signal<Account | null>(null);
  private readonly versions: Record<Part, Signal<number>>;
  private readonly inbox = new Inbox();
  private flushing: ReturnType<typeof setTimeout> | null = null;
  private flushedAt = 0;
  private readonly sweeping: ReturnType<typeof setInterval>;
  private readonly stopAsking: () => void;
  private stopHearing: (() => void) | null = null;

  constructor(
    readonly farm: FarmDocument,
    credentials: Credentials,
    onRefused: (why: string) => void,
  ) {
    this.user = credentials.user;
    this.wall = credentials.wall;
    this.versions = Object.fromEntries(PARTS.map((part) => [part, signal(0)])) as Record<
      Part,
      Signal<number>
    >;
    const { user, password } = credentials;
    this.connection = new Connection(webSocketUrl(farm.mqtt), farm.root, user, password, {
      onMessage: (topic, payload) => this.onMessage({ topic, payload, at: Date.now() }),
      onSubscribed: (filters) => this.inbox.expect(filters, Date.now()),
      onRefused,
    });
    this.requests = new Requests(this.connection);
    this.statuses = new QueueStatuses(this.requests);
    for (const family of [t.CONTROL_HEARTBEAT, t.CONTROL_STATE]) this.need(family);
    this.sweeping = setInterval(() => this.sweep(), 1000);
    this.stopAsking = this.connection.link.subscribe((link) => {
      if (link.phase === "online") void this.learnRole();
    });
  }

  open(): void {
    this.connection.open();
  }

  close(): void {
    clearInterval(this.sweeping);
    if (this.flushing !== null) clearTimeout(this.flushing);
    this.stopAsking();
    this.stopHearing?.();
    this.connection.close();
  }

  /** Read a part in a component, which is then drawn anew whenever that part has changed. */
  read(...parts: Part[]): void {
    for (const part of parts) this.versions[part].value;
  }

  /** Subscribe to a family until the function that is returned has been called. */
  need(family: t.Family, ids: t.Ids = {}): () => void {
    return this.connection.need(t.spell(family, ids), family.qos);
  }

  /** Change what is known by what was answered, and have the views that read it drawn anew. */
  change(part: Part, how: (state: FarmState) => void): void {
    how(this.state);
    this.versions[part].value += 1;
  }

  /** Since when all that is said has been heard, milliseconds; null while the broker is away. */
  get heardSince(): number | null {
    const link = this.connection.link.value;
    return link.phase === "online" ? link.since : null;
  }

  private onMessage(message: Message): void {
    if (t.parse(t.REPLY, message.topic) !== null) {
      try {
        this.requests.onReply(message.payload);
      } catch (error) {
        console.warn("an answer that is none:", message.topic, error);
      }
      return;
    }
    this.inbox.put(message);
    this.schedule();
  }

  private schedule(): void {
    if (this.flushing !== null) return;
    const wait = Math.max(0, this.flushedAt + BATCH_EVERY - Date.now());
    this.flushing = setTimeout(() => {
      if (document.hidden) this.flush();
      else requestAnimationFrame(() => this.flush());
    }, wait);
  }

  private flush(): void {
    this.flushing = null;
    this.flushedAt = Date.now();
    const changed = new Set<Part>();
    let measured = false;
    for (const message of this.inbox.take()) {
      const ids = t.parse(t.EVENT, message.topic);
      if (ids !== null) measured = this.takeEvent(ids, message) || measured;
      else {
        const part = apply(this.state, message);
        if (part !== null) changed.add(part);
      }
    }
    this.endFlood();
    batch(() => {
      for (const part of changed) this.versions[part].value += 1;
      if (measured) this.experimentChanged.value += 1;
    });
  }

  /** Of a log that floods the page would do nothing else; the latest lines are retained anyway. */
  private endFlood(): void {
    const of = this.inbox.floodOf;
    if (of === "") return;
    this.inbox.floodOf = "";
    this.connection.mute(t.spell(t.LOG), MUTED);
    this.logFlood.value = { of, until: Date.now() + MUTED };
  }

  private takeEvent(ids: t.Ids, { topic, payload }: Message): boolean {
    try {
      return this.experiment.take(ids, payload);
    } catch (error) {
      console.warn("an event that is none:", topic, error);
      return false;
    }
  }

  private sweep(): void {
    if (this.connection.link.value.phase !== "online") return;
    this.inbox.sweep(Date.now());
    if (!this.inbox.empty) this.schedule();
  }

  private async learnRole(): Promise<void> {
    if (this.wall) {
      this.role.value = "observer";
      return;
    }
    try {
      const ids = { operation: "whoami" };
      const account = await this.requests.ask(t.BROKER_OPERATION, ids, "broker", {}, Account);
      this.account.value = account;
      this.role.value = asRole(account.role);
    } catch (error) {
      const denied = error instanceof FarmError && error.code === "permission_denied";
      if (denied) this.role.value = "observer";
      // A broker without that service tells nobody. It still refuses what somebody may not do.
      else if (this.role.value === null && this.heardSince !== null) this.role.value = "user";
    }
    // From the beginning, for what was measured is told once; it is nothing but their own.
    if (this.role.value !== "observer" && this.stopHearing === null) {
      const own = { user: this.user };
      const stops = [this.need(t.EVENT, own), this.need(t.EXPERIMENT, own)];
      this.stopHearing = () => {
        for (const stop of stops) stop();
      };
    }
  }
}

function asRole(role: string): Role {
  return role === "admin" || role === "user" ? role : "observer";
}

function webSocketUrl(path: string): string {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
