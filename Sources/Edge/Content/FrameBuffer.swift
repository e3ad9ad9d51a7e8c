// Where plaintext lies between the socket and its seal: one frame, zeroed as soon as it is sealed.

import Sealing

/// A buffer of one frame. Its owner is a message on one event loop.
final class FrameBuffer {
    static let capacity = 65_536

    private let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
    private(set) var count = 0

    deinit {
        clear()
        storage.deallocate()
    }

    var isFull: Bool { count == Self.capacity }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[..<count]) }

    /// Copies as much as fits; answers how much that was.
    func append(_ source: UnsafeRawBufferPointer) -> Int {
        let taken = min(source.count, Self.capacity - count)
        guard taken > 0 else { return 0 }
        UnsafeMutableRawBufferPointer(rebasing: storage[count..<(count + taken)])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<taken]))
        count += taken
        return taken
    }

    /// Overwrites what was in it.
    func clear() {
        if count > 0 { Erasure.erase(UnsafeMutableRawBufferPointer(rebasing: storage[..<count])) }
        count = 0
    }
}

/// Buffers of an event loop that are free now.
final class FrameBufferPool {
    private var free: [FrameBuffer] = []

    func take() -> FrameBuffer { free.popLast() ?? FrameBuffer() }

    func giveBack(_ buffer: FrameBuffer) {
        buffer.clear()
        if free.count < 32 { free.append(buffer) }
    }
}
