//! SVG to PNG, for those who show no SVG: mail clients.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

/// Letters of Europe's scripts and the signs of figures, so that a picture is the same on a machine without fonts. DejaVu
/// Sans 2.37, cut down to these; its licence stands beside it.
const FONT: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");
const FONT_FAMILY: &str = "DejaVu Sans";

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family(FONT_FAMILY);
    Arc::new(fonts)
});

/// A picture and how large it is to be shown, in CSS pixels; it has twice as many of its own, for sharp screens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub png: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

const SCALE: f32 = 2.0;

/// Draws a chart on white. The error says what is wrong with the SVG.
pub fn draw(svg: &str) -> Result<Picture, String> {
    let options = Options { font_family: FONT_FAMILY.into(), fontdb: FONTS.clone(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let (width, height) = (tree.size().width().ceil() as u32, tree.size().height().ceil() as u32);
    let pixels = |length: u32| (length as f32 * SCALE) as u32;
    let mut pixmap = Pixmap::new(pixels(width), pixels(height)).ok_or("a picture without any area")?;
    pixmap.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
    let png = pixmap.encode_png().map_err(|error| error.to_string())?;
    Ok(Picture { png, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Pixmap {
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 20' font-family='system-ui, sans-serif'>\
             <text x='2' y='14' font-size='12' fill='#000'>{text}</text></svg>"
        );
        let picture = draw(&svg).unwrap();
        assert_eq!((picture.width, picture.height), (100, 20));
        Pixmap::decode_png(&picture.png).unwrap()
    }

    fn dark(pixmap: &Pixmap) -> usize {
        pixmap.pixels().iter().filter(|pixel| pixel.red() < 128).count()
    }

    #[test]
    fn text_is_drawn_without_any_font_of_the_machine() {
        assert_eq!((drawn("").width(), dark(&drawn(""))), (200, 0));
        for text in
            ["amount", "\u{e9}t\u{e9}", "\u{43c}\u{43e}\u{434}\u{435}\u{43b}\u{44c}", "41.3% \u{2192}", "\u{2026}"]
        {
            assert!(dark(&drawn(text)) > 10, "{text}: {}", dark(&drawn(text)));
        }
    }

    #[test]
    fn what_is_no_svg_is_an_error() {
        assert!(draw("<svg").is_err() && draw("").is_err());
    }
}
