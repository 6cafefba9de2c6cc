//! Layers come out on disk as they were packed, and their archives come back byte for byte.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use droste_image::save;
use tempfile::TempDir;

use crate::support::*;

/// A tree with one of everything that a layer can hold.
const TREE: &str = r#"
mkdir -p tree/d/sub tree/empty
cd tree
echo hello > d/file; chmod 4755 d/file; chown 12:34 d/file
ln d/file d/sub/hard
ln -s d/../d/file link; ln -s /etc/absolute absolute; chown -h 5:6 link
mknod null c 1 3; chmod 666 null
mkfifo pipe
truncate -s 3M sparse; printf x | dd of=sparse bs=1 seek=1000000 conv=notrunc status=none
printf end >> sparse
setfattr -n user.note -v words d/file
setcap cap_net_raw+ep d/sub/hard
touch -d '2001-02-03 04:05:06.123456789 UTC' d/file
name=$(printf 'n%.0s' $(seq 1 200)); mkdir -p "long/$name"; echo deep > "long/$name/$name"
chown 3000000:4 long
touch -d '1999-01-01 UTC' d empty
"#;

/// Owner, mode, size, time, link, device and attributes of everything in a tree.
const LIST: &str = r"
find . -printf '%P|%y|%m|%U|%G|%s|%T@|%l|%n\n' | sort
find . -type c -exec stat -c '%n %t %T' {} + | sort
getfattr -R -h -d -m 'user|security' . 2>/dev/null | sort
find . -type f -exec sha256sum {} + | sort
";

fn listing(directory: &std::path::Path, with_fractions: bool) -> String {
    let list = shell(directory, LIST);
    // Directories' sizes are the file system's affair; formats without PAX keep whole seconds.
    let lines = list.lines().map(|line| {
        let mut fields: Vec<&str> = line.split('|').collect();
        if fields.len() == 9 {
            if fields[1] == "d" {
                fields[5] = "";
                fields[8] = "";
            }
            if !with_fractions {
                fields[6] = fields[6].split('.').next().unwrap();
            }
        }
        fields.join("|")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn gnu_tars_archives_come_out_as_they_were() {
    let work = TempDir::new().unwrap();
    shell(work.path(), TREE);
    for (options, with_fractions) in [
        ("--format=posix", true),
        ("--format=posix --sparse --sparse-version=1.0", true),
        ("--format=posix --sparse --sparse-version=0.1", true),
        ("--format=posix --sparse --sparse-version=0.0", true),
        ("--format=gnu --sparse", false),
    ] {
        let (_directory, store) = store();
        let xattrs = if with_fractions { "--xattrs --xattrs-include='*'" } else { "" };
        shell(work.path(), &format!("tar {options} {xattrs} -C tree -cf tree.tar ."));
        let archive = std::fs::read(work.path().join("tree.tar")).unwrap();
        let image = image_of(&store, &archive).unwrap();
        let layer = top_layer(&store, &image);
        if with_fractions {
            assert_eq!(listing(&layer, true), listing(&work.path().join("tree"), true), "{options}");
        } else {
            // GNU's own format has no attributes.
            let plain = |text: String| text.lines().filter(|line| line.contains('|')).collect::<Vec<_>>().join("\n");
            let original = plain(listing(&work.path().join("tree"), false));
            assert_eq!(plain(listing(&layer, false)), original, "{options}");
        }
        let sparse = std::fs::metadata(layer.join("sparse")).unwrap();
        let is_sparse = options.contains("--sparse");
        assert!(!is_sparse || sparse.blocks() * 512 < sparse.len() / 2, "{options}: {} blocks", sparse.blocks());
        assert_same_archive(&image, &archive, options);
    }
}

fn assert_same_archive(image: &droste_image::Image, archive: &[u8], what: &str) {
    let mut saved = Vec::new();
    save(&[(image.clone(), Vec::new())], &mut saved).unwrap();
    let blob = format!("blobs/sha256/{}", image.layers()[0].hex());
    assert!(content(&saved, &blob) == archive, "{what}: the layer's archive came back changed");
}

#[test]
fn compressed_layers_are_the_same_layer() {
    let (_directory, store) = store();
    let archive = tar(&[Item::file("a", "content")]);
    let plain = image_of(&store, &archive).unwrap();
    let work = TempDir::new().unwrap();
    std::fs::write(work.path().join("a"), &archive).unwrap();
    shell(work.path(), "gzip -k a; xz -k a; bzip2 -k a; zstd -q -k a");
    for suffix in ["gz", "xz", "bz2", "zst"] {
        let packed = std::fs::read(work.path().join(format!("a.{suffix}"))).unwrap();
        let image = image_of(&store, &packed).unwrap();
        assert_eq!(image.layers(), plain.layers(), "{suffix}");
    }
    // The empty layer and this one, however often it came.
    assert_eq!(store.layers().len(), 2);
}

#[test]
fn whiteouts_become_overlayfs() {
    let (_directory, store) = store();
    let archive = tar(&[
        Item::directory("d/"),
        Item::file("d/.wh.gone", ""),
        Item::directory("o"),
        Item::file("o/.wh..wh..opq", ""),
        Item::file("o/new", "n"),
    ]);
    let image = image_of(&store, &archive).unwrap();
    let layer = top_layer(&store, &image);
    let gone = std::fs::symlink_metadata(layer.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(!layer.join("d/.wh.gone").exists() && !layer.join("o/.wh..wh..opq").exists());
    let opaque = shell(&layer, "getfattr --only-values -n trusted.overlay.opaque o");
    assert_eq!(opaque, "y");
    assert_same_archive(&image, &archive, "whiteouts");
}

#[test]
fn entries_that_replace_each_other_come_back() {
    let (_directory, store) = store();
    let archive = tar(&[
        Item::file("a", "first"),
        Item::file("a", "second"),
        Item::file("d/x", "in a directory"),
        Item::file("d/y", "beside"),
        Item::file("d/x", "again"),
        Item::symlink("d", "e"),
        Item::directory("e"),
        Item::file("e/f", "kept"),
        Item::hard_link("h", "e/f"),
        Item::file("e/f", "replaced"),
        Item::file("e/.wh.f", ""),
        Item::file("a", "third"),
    ]);
    let image = image_of(&store, &archive).unwrap();
    let layer = top_layer(&store, &image);
    let text = |name: &str| std::fs::read_to_string(layer.join(name)).unwrap();
    assert_eq!((text("a").as_str(), text("h").as_str()), ("third", "kept"));
    assert_eq!(std::fs::read_link(layer.join("d")).unwrap().to_str().unwrap(), "e");
    assert_eq!(std::fs::symlink_metadata(layer.join("e/f")).unwrap().rdev(), 0);
    assert_same_archive(&image, &archive, "replaced entries");
}

#[test]
fn a_layer_changed_on_disk_is_not_given_out() {
    let (_directory, store) = store();
    let image = image_of(&store, &tar(&[Item::file("a", "content")])).unwrap();
    std::fs::write(top_layer(&store, &image).join("a"), "c0ntent").unwrap();
    let error = save(&[(image, Vec::new())], std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("was changed on disk"), "{error}");
}

#[test]
fn overlayfs_own_attributes_do_not_come_from_archives() {
    let (_directory, store) = store();
    let records: &[(&str, &[u8])] =
        &[("SCHILY.xattr.trusted.overlay.redirect", b"/etc"), ("SCHILY.xattr.user.fine", b"yes")];
    let image = image_of(&store, &tar(&[Item::pax(records), Item::directory("d")])).unwrap();
    let list = shell(&top_layer(&store, &image), "getfattr -d -m - d");
    assert!(list.contains("user.fine") && !list.contains("redirect"), "{list}");
}
