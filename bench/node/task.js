// What web and worker share: the model, the queue and the connections.
import mongoose from 'mongoose'
import { Queue } from 'bullmq'

const { hostname, port } = new URL(process.env.REDIS_URL)

export const connection = { host: hostname, port: Number(port || 6379), maxRetriesPerRequest: null }
export const queue = new Queue('tasks', { connection })
export const Task = mongoose.model(
  'Task',
  new mongoose.Schema(
    {
      type: { type: String, required: true },
      payload: { type: mongoose.Schema.Types.Mixed, default: {} },
      status: { type: String, default: 'pending' },
      result: { type: mongoose.Schema.Types.Mixed, default: null },
    },
    { timestamps: true, minimize: false },
  ),
)

export function connect() {
  return mongoose.connect(process.env.MONGO_URL, { dbName: process.env.MONGO_DATABASE })
}
