//! The file of a trained codec.

use crate::codec::{Codec, CodecParameters, Fde, FdeParameters};
use crate::error::{Error, Result};
use crate::format::header::FileKind;
use crate::format::section::SectionKind;
use crate::format::{Container, FileEntry, Manifest, SectionData, write_container};
use crate::parallel::Execution;
use crate::storage::{Storage, bytes_of};

/// Reads the codec of a manifest, if there is one yet.
pub(crate) fn open(storage: &dyn Storage, manifest: &Manifest, execution: &Execution) -> Result<Option<Codec>> {
    let Some(entry) = &manifest.codec else {
        return Ok(None);
    };
    let container = Container::open_entry(storage, entry, FileKind::Codec, execution)?;
    let section = SectionKind::CodecParameters;
    let corrupt = |problem: String| container.corrupt(section.name(), problem);
    let json = container.required::<u8>(section, execution)?;
    let parameters: CodecParameters = serde_json::from_slice(&json).map_err(|error| corrupt(error.to_string()))?;
    let rotation = container.required::<f32>(SectionKind::Rotation, execution)?;
    let centroids = container.required::<i8>(SectionKind::Centroids, execution)?;
    let codec = Codec::from_parts(parameters, rotation.to_vec(), centroids.to_vec()).map_err(corrupt)?;
    if codec.dim() != manifest.dim {
        return Err(corrupt(format!("its dimension is {}, that of the index {}", codec.dim(), manifest.dim)));
    }
    let options = &manifest.codec_options;
    if !codec.is_of(options) && !codec.is_of(&options.untrained()) {
        return Err(corrupt("it is not of the kind that the index has".to_owned()));
    }
    Ok(Some(match read_fde(&container, &codec, execution)? {
        Some(fde) => codec.with_fde(Some(fde)),
        None => codec,
    }))
}

fn read_fde(container: &Container, codec: &Codec, execution: &Execution) -> Result<Option<Fde>> {
    let section = SectionKind::FdeParameters;
    let Some(json) = container.optional::<u8>(section, execution)? else { return Ok(None) };
    let corrupt = |problem: String| container.corrupt(section.name(), problem);
    let parameters: FdeParameters = serde_json::from_slice(&json).map_err(|error| corrupt(error.to_string()))?;
    let hyperplanes = container.required::<f32>(SectionKind::FdeHyperplanes, execution)?;
    let mean = container.required::<f32>(SectionKind::FdeMean, execution)?;
    Fde::from_parts(codec.dim(), codec.depth(), parameters, hyperplanes.to_vec(), mean.to_vec())
        .map(Some)
        .map_err(corrupt)
}

/// Writes a codec.
pub(crate) fn write(storage: &dyn Storage, name: &str, codec: &Codec, execution: &Execution) -> Result<FileEntry> {
    let json = |value: serde_json::Result<Vec<u8>>| value.map_err(|error| Error::invalid(error.to_string()));
    let parameters = json(serde_json::to_vec(codec.parameters()))?;
    let fde = codec.fde().map(|fde| Ok((fde, json(serde_json::to_vec(fde.parameters()))?))).transpose()?;
    let mut sections = vec![
        SectionData::new(SectionKind::CodecParameters, &parameters),
        SectionData::new(SectionKind::Rotation, bytes_of(codec.rotation())),
        SectionData::new(SectionKind::Centroids, bytes_of(codec.centroids())),
    ];
    if let Some((fde, parameters)) = &fde {
        sections.push(SectionData::new(SectionKind::FdeParameters, parameters));
        sections.push(SectionData::new(SectionKind::FdeHyperplanes, bytes_of(fde.hyperplanes())));
        sections.push(SectionData::new(SectionKind::FdeMean, bytes_of(fde.mean())));
    }
    write_container(storage, name, FileKind::Codec, &sections, execution)
}
