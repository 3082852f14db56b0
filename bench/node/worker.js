// Records each step of a task in MongoDB.
import { setTimeout } from 'node:timers/promises'
import { Worker } from 'bullmq'
import { connection, connect, Task } from './task.js'

await connect()
new Worker('tasks', run, { connection, concurrency: Number(process.env.CONCURRENCY ?? 1) })

async function run(job) {
  const task = await Task.findById(job.data.id)
  await Task.updateOne({ _id: task.id }, { status: 'processing' })
  if (task.type === 'sleep') await setTimeout(task.payload.seconds * 1000)
  await Task.updateOne({ _id: task.id }, { status: 'completed', result: task.payload })
}
