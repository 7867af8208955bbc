//! Rejects modifications of the read-only tree.
//!
//! The kernel rejects them itself as long as the mount is read-only. Root can remount
//! it read-write; then these operations return the same error instead of ENOSYS.

/// Defines the operations of a [`fuser::Filesystem`] that modify files; each returns
/// EROFS. For use inside the implementation.
macro_rules! reject_changes {
    () => {
        $crate::fuse::readonly::reject_changes! {
            setattr(
                fuser::INodeNo,
                Option<u32>,
                Option<u32>,
                Option<u32>,
                Option<u64>,
                Option<fuser::TimeOrNow>,
                Option<fuser::TimeOrNow>,
                Option<std::time::SystemTime>,
                Option<fuser::FileHandle>,
                Option<std::time::SystemTime>,
                Option<std::time::SystemTime>,
                Option<std::time::SystemTime>,
                Option<fuser::BsdFileFlags>
            ) -> fuser::ReplyAttr;
            mknod(fuser::INodeNo, &std::ffi::OsStr, u32, u32, u32) -> fuser::ReplyEntry;
            mkdir(fuser::INodeNo, &std::ffi::OsStr, u32, u32) -> fuser::ReplyEntry;
            unlink(fuser::INodeNo, &std::ffi::OsStr) -> fuser::ReplyEmpty;
            rmdir(fuser::INodeNo, &std::ffi::OsStr) -> fuser::ReplyEmpty;
            symlink(fuser::INodeNo, &std::ffi::OsStr, &std::path::Path) -> fuser::ReplyEntry;
            rename(
                fuser::INodeNo,
                &std::ffi::OsStr,
                fuser::INodeNo,
                &std::ffi::OsStr,
                fuser::RenameFlags
            ) -> fuser::ReplyEmpty;
            link(fuser::INodeNo, fuser::INodeNo, &std::ffi::OsStr) -> fuser::ReplyEntry;
            write(
                fuser::INodeNo,
                fuser::FileHandle,
                u64,
                &[u8],
                fuser::WriteFlags,
                fuser::OpenFlags,
                Option<fuser::LockOwner>
            ) -> fuser::ReplyWrite;
            setxattr(fuser::INodeNo, &std::ffi::OsStr, &[u8], i32, u32) -> fuser::ReplyEmpty;
            removexattr(fuser::INodeNo, &std::ffi::OsStr) -> fuser::ReplyEmpty;
            create(fuser::INodeNo, &std::ffi::OsStr, u32, u32, i32) -> fuser::ReplyCreate;
            fallocate(fuser::INodeNo, fuser::FileHandle, u64, u64, i32) -> fuser::ReplyEmpty;
        }
    };
    ($($name:ident($($argument:ty),*) -> $reply:ty;)*) => {
        $(fn $name(&self, _: &fuser::Request, $(_: $argument,)* reply: $reply) {
            reply.error(fuser::Errno::EROFS);
        })*
    };
}

pub(super) use reject_changes;
