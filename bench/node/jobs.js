// BullMQ in the queue layer: the same three things as the Python systems, and the same tape.
import { openSync, writeSync, readSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { Queue, Worker } from 'bullmq'

const { hostname, port } = new URL(process.env.REDIS_URL)
const connection = { host: hostname, port: Number(port || 6379), maxRetriesPerRequest: null }
const kept = { removeOnComplete: true, removeOnFail: true }
const WARM_UP = 10
const tape = openSync(process.env.TAPE, 'a')
const [what, number] = process.argv.slice(2)

const now = () => Number(process.hrtime.bigint()) / 1e9

function started() {
  const moment = Buffer.alloc(8)
  moment.writeDoubleLE(now())
  writeSync(tape, moment)
}

if (what === 'work') {
  new Worker('jobs', async () => started(), { connection, concurrency: 100 })
} else {
  const queue = new Queue('jobs', { connection })
  if (what === 'fill') {
    for (let start = 0; start < number; start += 1000) {
      const size = Math.min(1000, number - start)
      await queue.addBulk(Array.from({ length: size }, () => ({ name: 'noop', data: {}, opts: kept })))
    }
  } else {
    console.log(JSON.stringify(await pick(queue, Number(number))))
  }
  await queue.close()
}

async function pick(queue, count) {
  const found = []
  const reader = openSync(process.env.TAPE, 'r')
  const moment = Buffer.alloc(8)
  for (let job = 0; job < WARM_UP + count; job++) {
    await setTimeout(10 + Math.random() * 40)
    const sent = now()
    await queue.add('noop', {}, kept)
    while (readSync(reader, moment, 0, 8, job * 8) < 8) await setTimeout(1)
    if (job >= WARM_UP) found.push(moment.readDoubleLE() - sent)
  }
  return found
}
