/** Takes messages as they come and hands them on in batches, so that a busy farm is drawn in steps. */

import { LOG, readTopic } from "../bus/topics";
import type { Message } from "./state";

/** Milliseconds between two batches: a change is seen soon, and the page has time for people. */
export const BATCH_EVERY = 200;

/** Milliseconds after a subscription until what the broker no longer retains is dropped. */
export const RETAINED_WITHIN = 3_000;

/** Messages that are no state, kept until the next batch at most. */
export const MOST_WAITING = 20_000;

/** Log lines of one component in a batch: as many as one sends at once, and some. */
export const MOST_LINES = 250;

/** Lines of one component in a batch after which it floods: to read them takes all of a page. */
export const FLOOD = 2 * MOST_LINES;

/** The messages that are waiting, of each state topic only the newest; and what is retained. */
export class Inbox {
  private readonly states = new Map<string, Message>();
  private others: Message[] = [];
  private readonly retained = new Set<string>();
  private unconfirmed = new Map<string, number>();
  private readonly lines = new Map<string, number>();
  dropped = 0;
  /** Whose log has come in a flood since that was last looked at, as `role id`; else empty. */
  floodOf = "";

  /** Take a message. */
  put(message: Message): void {
    const family = readTopic(message.topic)?.family;
    if (family === LOG && !this.hasRoomForLine(message.topic)) return;
    if (family?.state) {
      this.states.set(message.topic, message);
      this.unconfirmed.delete(message.topic);
      if (message.payload.length > 0) this.retained.add(message.topic);
      else this.retained.delete(message.topic);
    } else if (this.others.length < MOST_WAITING) this.others.push(message);
    else this.dropped += 1;
  }

  get empty(): boolean {
    return this.states.size === 0 && this.others.length === 0;
  }

  /** All that has come since the last time. */
  take(): Message[] {
    const taken = [...this.states.values(), ...this.others];
    this.states.clear();
    this.others = [];
    this.lines.clear();
    return taken;
  }

  /** Lines are best effort, and a component whose key was stolen must not keep the page busy. */
  private hasRoomForLine(topic: string): boolean {
    const sender = topic.slice(0, topic.lastIndexOf("/"));
    const count = (this.lines.get(sender) ?? 0) + 1;
    this.lines.set(sender, count);
    if (count === FLOOD) this.floodOf = sender.split("/").slice(1).join(" ");
    return count <= MOST_LINES;
  }

  /** What is known under these filters has to be said again: the broker tells what it retains. */
  expect(filters: readonly string[], at: number): void {
    for (const topic of this.retained) {
      if (filters.some((filter) => matches(filter, topic))) this.unconfirmed.set(topic, at);
    }
  }

  /** Drop what was not said again: it went while nobody listened. */
  sweep(at: number): void {
    for (const [topic, since] of this.unconfirmed) {
      if (at - since < RETAINED_WITHIN) continue;
      this.put({ topic, payload: new Uint8Array(), at });
    }
  }
}

/** Whether a topic is one of a filter's, where `+` stands for any level. */
export function matches(filter: string, topic: string): boolean {
  const wanted = filter.split("/");
  const levels = topic.split("/");
  return (
    wanted.length === levels.length &&
    wanted.every((level, index) => level === "+" || level === levels[index])
  );
}
